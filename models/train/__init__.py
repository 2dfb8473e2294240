"""How `models/default.onnx` was made: `python -m models.train --work DIR` (see README.md here)."""
