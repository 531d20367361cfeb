"""Settings that weights do not show: those of the file beside those of the module, layer by layer."""
