"""The proofs of a plan: the features are those of their sample, and the head is the model."""
