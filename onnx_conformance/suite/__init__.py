"""Cases, each a model with inputs and the expected outputs, from folders and from onnx's suite."""
