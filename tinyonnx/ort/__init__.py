"""The session and all else that is spelled as onnxruntime spells it."""
