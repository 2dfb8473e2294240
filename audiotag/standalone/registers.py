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
"""Start of the range to process: of bytes, mono samples, or samples at the model's rate."""

END = next(_integers)
"""End of that range."""

COUNT = next(_integers)
"""Number of samples on the tape."""

FIRST = next(_integers)
"""Whether a clip or window begins."""

LAST = next(_integers)
"""Whether a clip or window ends."""

ZEROS = next(_integers)
"""Samples of silence that follow the last ones of a clip or window."""

STEP = next(_integers)
"""Distance of two rows of features."""

TOP = next(_integers)
"""Maximum number of tags."""

PROBABILITIES = next(_integers)
"""Whether the model's scores are probabilities instead of logits."""

PIECES = next(_integers)
"""Number of pieces of a clip so far whose scores are averaged; 0: none are."""

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
