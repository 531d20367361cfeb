"""One file per format: a file of weights to named arrays."""
