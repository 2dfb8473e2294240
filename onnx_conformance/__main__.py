"""`python -m onnx_conformance`."""

from __future__ import annotations

import sys

from onnx_conformance.cli import main

sys.exit(main())
