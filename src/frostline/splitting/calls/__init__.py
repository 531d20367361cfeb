"""The calls of a run: torch functions and modules, where in the run they stand, and the tensors that they pass on."""
