"""`python -m audiotag` is the `audiotag` command."""

import sys

from audiotag.cli import command

sys.exit(command())
