"""ONNX files: reading them into an `ir.Graph`, writing them, and what the format says of operators."""
