"""The module of a Keras network: channels last in the file, on axis 1 in the module."""
