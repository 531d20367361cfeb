"""A plain PyTorch module written from the architecture in a file, for the port to fill."""
