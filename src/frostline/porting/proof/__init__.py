"""Runs of the module beside its source network: they decide what the plan leaves open, and prove the result."""
