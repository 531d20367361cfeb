"""Layers with their tensors: of a file, of a module, and of a file in the form in which the module has them."""
