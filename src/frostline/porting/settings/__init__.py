"""Settings that tensors do not store, such as epsilon: those of the file compared with those of the module."""
