"""An ONNX interpreter in Python: onnx parses, numpy defines every operator, numba runs the hot ones."""

__version__ = "0.1.0"
