"""Settings from the command line: indices into the int64 array `settings` and the float64 array `reals`.

Imported as `setting`, so that `settings[setting.NAME]` is a setting.
"""

from __future__ import annotations

from itertools import count

# -- settings -------------------------------------------------------------------------------

_index = count()

RAW_ENCODING = next(_index)
"""Encoding of samples without a header, 0 for WAV files."""

RAW_CHANNELS = next(_index)
"""Number of channels of samples without a header."""

RAW_RATE = next(_index)
"""Sample rate of samples without a header in Hz."""

TOP = next(_index)
"""Maximum number of tags."""

JSON = next(_index)
"""Whether rows are JSON."""

WINDOW = next(_index)
"""Samples per window, 0 for whole clips."""

TEXT_ONLY = next(_index)
"""Number of a text to print instead of tagging, such as the help; 0 for none."""

SETTINGS = next(_index)
"""Number of settings."""

# -- reals ----------------------------------------------------------------------------------

_real_index = count()

THRESHOLD = next(_real_index)
"""Minimum score."""

WINDOW_SECONDS = next(_real_index)
"""Window length in seconds."""

HOP = next(_real_index)
"""Seconds from one window start to the next."""

MIXED_ENERGY = next(_real_index)
"""Not a setting: energy of the mean of the channels since the last look for cancellation."""

CHANNEL_ENERGY = next(_real_index)
"""Not a setting: mean energy of the channels since then."""

REALS = next(_real_index)
"""Number of reals."""

# -- constants of the model -----------------------------------------------------------------

_fact_index = count()

PROBABILITIES = next(_fact_index)
"""Whether its scores are probabilities instead of logits."""

MODEL_FACTS = next(_fact_index)
"""Number of constants."""
