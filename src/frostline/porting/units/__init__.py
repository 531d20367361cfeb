"""Units (layers with their tensors) of files and modules, and conversion of the former to the form of the latter."""
