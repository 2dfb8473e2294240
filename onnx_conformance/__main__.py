"""`python -m onnx_conformance`."""

from __future__ import annotations

import sys

from tinyonnx_start import onnx_conformance

sys.exit(onnx_conformance())
