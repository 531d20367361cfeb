"""The text of a PyTorch module, written from the architecture in a file; a port then loads the weights into it."""
