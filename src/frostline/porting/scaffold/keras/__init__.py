"""The text of a module for a Keras network: channels of images are last in the file, and on axis 1 in the module."""
