"""Keras architectures computed in float64 without Keras: what a file's network gives, as evidence for a port."""
