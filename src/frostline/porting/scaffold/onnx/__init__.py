"""The module of an ONNX graph."""
