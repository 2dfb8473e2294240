"""`python -m audiotag` is the `audiotag` command."""

import sys

from tinyonnx_start import audiotag

sys.exit(audiotag())
