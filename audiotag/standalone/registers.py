"""Registers that kernels and glue share: indices into the int64 array `control`.

All registers are 0 when the program starts. Imported as `reg`, so that `c[reg.NAME]` is a register.
"""

from __future__ import annotations

from itertools import count

_index = count()

# -- the glue -------------------------------------------------------------------------------

KERNEL = next(_index)
"""Number of the kernel to call next, see `control.ARRANGE`."""

ACTION = next(_index)
"""Action for the glue, see `control.OPEN`."""

PLACE = next(_index)
"""Argument of the action: offset of a file name in `arguments` (-1: standard input), file descriptor, or exit code."""

COUNT = next(_index)
"""Argument of the action: offset in `input` to read to, or number of bytes in `output` to write."""

RESULT = next(_index)
"""Result of the action, negative for an error."""

FRAMES = next(_index)
"""Number of log-mel frames in `features`."""

# -- bytes of the file ----------------------------------------------------------------------

INPUT_START = next(_index)
"""Start of the unread range of `input`."""

INPUT_END = next(_index)
"""End of the unread range of `input`."""

INPUT_BYTES = next(_index)
"""Total number of bytes read from the file."""

INPUT_ENDED = next(_index)
"""Whether the end of the file has been reached."""

# -- WAV header -----------------------------------------------------------------------------

HEADER_STARTED = next(_index)
"""Whether the RIFF header has been read."""

HEADER_DONE = next(_index)
"""Whether the header is complete, so that samples come next."""

SKIP = next(_index)
"""Bytes of a chunk that remain to be skipped."""

RF64 = next(_index)
"""Whether the file is RF64, whose sizes are 64-bit."""

RF64_DATA_SIZE = next(_index)
"""Size of the data chunk from the `ds64` chunk."""

# -- sample format --------------------------------------------------------------------------

FORMAT = next(_index)
"""Format code of the header: 1 PCM, 3 float, -1 none yet."""

BITS = next(_index)
"""Bits per sample according to the header."""

ENCODING = next(_index)
"""Encoding of the samples, see `control.UNSIGNED_8`; 0 if they can't be."""

CHANNELS = next(_index)
"""Number of channels."""

RATE = next(_index)
"""Sample rate in Hz."""

DATA_LEFT = next(_index)
"""Bytes of samples that remain to be decoded."""

# -- error of the clip ----------------------------------------------------------------------

PROBLEM = next(_index)
"""Error of the clip, see `control.EMPTY`; 0 if there is none."""

NUMBER = next(_index)
"""Number in the error message."""

NUMBER_2 = next(_index)
"""Second number in the error message."""

# -- decoder --------------------------------------------------------------------------------

DECODING = next(_index)
"""0 before the samples, 1 before the first frame, 2 after it."""

MONO_START = next(_index)
"""Start of the mono samples that wait for the resampler."""

MONO_END = next(_index)
"""End of the mono samples that wait for the resampler."""

SAMPLES = next(_index)
"""Number of samples at 32 kHz that wait for analysis."""

LAST = next(_index)
"""Whether these are the last samples of the clip."""

# -- command line and report ----------------------------------------------------------------

STATE = next(_index)
"""0 before the options are read, 1 after, 2 when the program exits after the current write."""

NEXT_KERNEL = next(_index)
"""Kernel that continues after a write, 0 for the next file."""

NAME_START = next(_index)
"""Start of the clip's name in `arguments`."""

NAME_END = next(_index)
"""End of the clip's name in `arguments`."""

ANY_FAILED = next(_index)
"""Whether a clip has failed; the exit code after the last one."""

HEADING_WRITTEN = next(_index)
"""Whether a heading has been written, so that the next one follows an empty line."""

EXIT_CODE = next(_index)
"""Exit code in state 2."""

# -- windows --------------------------------------------------------------------------------

WINDOW_COUNT = next(_index)
"""Number of windows of the clip so far."""

TAPE_SAMPLES = next(_index)
"""Number of samples in `tape`."""

TAPE_START = next(_index)
"""Position in the clip of the first sample in `tape`."""

COVERED_END = next(_index)
"""Position in the clip at which the last window ended."""

CLIP_SAMPLES = next(_index)
"""Number of samples of the clip that have been taken."""

PART_START = next(_index)
"""Position in the clip at which the analysed part starts."""

PART_END = next(_index)
"""Position in the clip at which the analysed part ends."""

ERROR_REPORTED = next(_index)
"""Whether a failure has been written to stderr, so that its JSON row comes next."""

# -- runs of samples ------------------------------------------------------------------------

RIFF_SIZE = next(_index)
"""Size of the RIFF chunk, 0 if the header doesn't give it."""

RUN_BYTES = next(_index)
"""Size of the current run of samples."""

RUN_PROMISED = next(_index)
"""Whether the header promises the run."""

PROMISED_FRAMES = next(_index)
"""Frames in all runs that the header promises."""

DECODED_FRAMES = next(_index)
"""Frames decoded so far."""

BEHIND_SAMPLES = next(_index)
"""Whether chunks behind a run are being skipped."""

# -- warnings -------------------------------------------------------------------------------

WARNINGS = next(_index)
"""Warnings for the next row as bits, see `control.LOUD`."""

WARNED = next(_index)
"""Warnings of earlier rows of the clip."""

WARNING_WRITTEN = next(_index)
"""Whether the warnings have been written to stderr, so that their row comes next."""

MIXED_FRAMES = next(_index)
"""Frames mixed since the last look for cancellation."""

LOOKS = next(_index)
"""Number of checks for cancellation so far."""

CANCELLED_AT = next(_index)
"""Second from which channels cancel."""

REGISTERS = next(_index)
"""Number of registers."""
