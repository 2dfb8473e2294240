"""Read ONNX files into an `ir.Graph`, write them, and check operators against the ONNX schemas."""
