"""`python -m tinyonnx` is the `tinyonnx` command."""

import sys

from tinyonnx_start import tinyonnx

sys.exit(tinyonnx())
