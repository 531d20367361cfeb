"""The exam of `fl.port`: networks of real frameworks into PyTorch modules of another make."""
