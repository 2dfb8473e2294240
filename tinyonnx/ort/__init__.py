"""The session and everything else that is named as in onnxruntime."""
