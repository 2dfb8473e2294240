"""The training of `models/default.onnx`: `python -m models.train --work DIR` (see README.md here)."""
