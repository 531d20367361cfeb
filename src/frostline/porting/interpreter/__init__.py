"""The network of a file computed without its framework, for the proof: Keras in float64, ONNX by ONNX Runtime."""
