"""Numbers that the C front end and the kernels exchange: indices into an int64 and a float64 array.

`source` gives C the same names, N_ENCODING and so on, R_PEAK and so on.
"""

from __future__ import annotations

from itertools import count

_integers = count()

ENCODING = next(_integers)
"""Encoding of the samples, see `samples.UNSIGNED_8`."""

CHANNELS = next(_integers)
"""Number of channels."""

RATE = next(_integers)
"""Sample rate in Hz."""

FRAMES = next(_integers)
"""Number of frames to decode, or of log-mel frames."""

START = next(_integers)
"""Start of the range to process: of bytes, mono samples, or samples at 32 kHz."""

END = next(_integers)
"""End of that range."""

COUNT = next(_integers)
"""Number of samples on the tape."""

FIRST = next(_integers)
"""Whether a clip or window begins."""

LAST = next(_integers)
"""Whether a clip or window ends."""

STEP = next(_integers)
"""Distance of two rows of features."""

TOP = next(_integers)
"""Maximum number of tags."""

PROBABILITIES = next(_integers)
"""Whether the model's scores are probabilities instead of logits."""

RESULT = next(_integers)
"""Result of a kernel."""

INTEGERS = next(_integers)
"""Number of integers."""

_reals = count()

PEAK = next(_reals)
"""Greatest magnitude of the samples; infinity if one is NaN."""

MIXED_ENERGY = next(_reals)
"""Energy of the mean of the channels."""

CHANNEL_ENERGY = next(_reals)
"""Mean energy of the channels."""

THRESHOLD = next(_reals)
"""Minimum score of a tag."""

REALS = next(_reals)
"""Number of reals."""
