"""Values of registers: kernels, actions of the glue, sample encodings, and errors of a clip."""

from __future__ import annotations

from audiotag.sound.audio import MAX_RATE, MIN_RATE

ARRANGE, DECODE, ANALYSE, REPORT = range(4)
"""Kernels, values of `registers.KERNEL`."""

NOTHING, OPEN, READ, MODEL, WRITE, CLOSE, EXIT = range(7)
"""Actions, values of `registers.ACTION`; the package's documentation describes them."""

UNSIGNED_8, SIGNED_16, SIGNED_24, SIGNED_32, FLOAT_32, FLOAT_64 = range(1, 7)
"""Encodings, values of `registers.ENCODING`; those of integers are their bytes."""

LOUD, GOES_ON, ENDS_EARLY, CANCELLED, SHORT = 1, 2, 4, 8, 16
"""Warnings, bits of `registers.WARNINGS`."""

(
    EMPTY, NO_WAV, NO_FORMAT, NO_SAMPLES, COMPRESSED, NO_WIDTH, NO_CHANNELS, MANY_CHANNELS, NO_RATE, BAD_RATE,
    BAD_SAMPLES, PART_OF_FRAME, NO_FRAMES, TOO_LONG, NO_PROGRAM, BAD_SCORES, SYSTEM, DOUBTFUL,
) = range(1, 19)  # fmt: skip
"""Errors of a clip, values of `registers.PROBLEM`."""

PROBLEMS = {
    EMPTY: "is empty",
    NO_WAV: "is not WAV, the only format read here (others: ffmpeg -i FILE -f wav - | PROGRAM -)",
    NO_FORMAT: "its header does not describe its samples",
    NO_SAMPLES: "ends before its samples begin",
    COMPRESSED: "its samples are compressed (WAV format {}): only PCM and floats are read here",
    NO_WIDTH: "its samples have {} bits",
    NO_CHANNELS: "its header gives no channels",
    MANY_CHANNELS: "has {} channels, at most 1024 are read",
    NO_RATE: "its header gives no valid sample rate (0 Hz?) or channels",
    BAD_RATE: f"sample rate {{}} Hz is not in {MIN_RATE}..{MAX_RATE} Hz",
    BAD_SAMPLES: "has NaN, infinite or absurdly large samples",
    PART_OF_FRAME: "{} bytes are not a whole number of {}-byte frames: another --raw or --channels?",
    NO_FRAMES: "has no samples",
    TOO_LONG: "longer than {} min: too long for one result, use windows (--window)",
    NO_PROGRAM: "this program can't tag clips of {} frames",
    BAD_SCORES: "the model gives NaN or infinite scores",
    SYSTEM: "",
    DOUBTFUL: "",
}
"""Messages, with {} for `registers.NUMBER` and `NUMBER_2`; SYSTEM stands for the system's message by errno, DOUBTFUL
for warnings that arose after the last row."""
