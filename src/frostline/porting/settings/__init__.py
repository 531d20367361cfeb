"""Settings that tensors do not store, such as epsilon: the file compared with the module, as a part of the proof."""
