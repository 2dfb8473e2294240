"""`python -m tinyonnx` is the `tinyonnx` command."""

import sys

from tinyonnx.cli import main

sys.exit(main())
