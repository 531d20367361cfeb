"""Measures gradients, activations and statistics of layers while a model trains."""
