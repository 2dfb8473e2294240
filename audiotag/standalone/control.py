"""Registers that kernels and glue share, the glue's actions, and what can be wrong with a clip."""

from __future__ import annotations

from audiotag.sound.audio import MAX_RATE, MIN_RATE

# registers of the array `control`, those of the glue first
KERNEL, ACTION, PLACE, COUNT, RESULT, FRAMES = range(6)
# what of `input` is still to be read; bytes read so far; whether that is all
AT, END, TOTAL, ENDED = range(6, 10)
# of the header: whether it has begun, and samples come next; bytes to skip; whether it is RF64, with which size
BEGUN, READY, SKIP, IS_LONG, LONG_SIZE = range(10, 15)
# of the samples: kind and bits as the header says, how to read them, channels, Hz, bytes that are left of them
KIND, BITS, ENCODING, CHANNELS, RATE, LEFT = range(15, 21)
# what is wrong with the clip, and numbers to name
PROBLEM, NUMBER, NUMBER_2 = range(21, 24)
# whether samples are being read (2: there were some); mono ones that wait to be resampled, from where to where; those
# at 32 kHz that wait to be analysed, and whether they are the last of the clip
STARTED, MONO_AT, MONO_END, SAMPLES, LAST = range(24, 29)

# actions
NOTHING, OPEN, READ, MODEL, WRITE, CLOSE, EXIT = range(7)

# whether the command line is checked (2: and all is done); the kernel that goes on after something was written; the
# clip's name in `arguments`; whether a clip failed, and whether there was a heading; exit code
CHECKED, NEXT, NAME, NAME_END, FAILED, WRITTEN, CODE = range(29, 36)
# windows: how many there were, samples on the tape, where it begins and the last window ended in the clip;
# samples of the clip that were heard; the part of it that the features are of; whether the report is on its second part
WINDOWS, TAPED, TAPE_START, COVERED, HEARD, PART_START, PART_END, SECOND, REGISTERS = range(36, 45)

# what the user wants, in the array `settings`: samples without a header, how they are encoded; how many tags; JSON;
# samples of a window, 0 for none; the number of a text that is all that was asked for
RAW_ENCODING, RAW_CHANNELS, RAW_RATE, TOP, JSON, WINDOW, TEXT_ONLY, SETTINGS = range(8)
# and in `reals`: the least score; seconds of a window, and from one to the next
THRESHOLD, WINDOW_SECONDS, HOP, REALS = range(4)

# kernels
ARRANGE, DECODE, ANALYSE, REPORT = range(4)

# encodings
UNSIGNED_8, SIGNED_16, SIGNED_24, SIGNED_32, FLOAT_32, FLOAT_64 = range(1, 7)

FINE = 0
(
    EMPTY, NO_WAV, NO_FORMAT, NO_SAMPLES, COMPRESSED, NO_WIDTH, NO_CHANNELS, MANY_CHANNELS, NO_RATE, BAD_RATE,
    BAD_SAMPLES, PART_OF_FRAME, NO_FRAMES, TOO_LONG, NO_PROGRAM, BAD_SCORES, SYSTEM,
) = range(1, 18)  # fmt: skip

PROBLEMS = {
    EMPTY: "is empty",
    NO_WAV: "is not WAV, the only format read here (others: ffmpeg -i FILE -f wav - | PROGRAM -)",
    NO_FORMAT: "its header does not say what its samples are",
    NO_SAMPLES: "ends before its samples begin",
    COMPRESSED: "its samples are compressed (WAV format {}): only PCM and floats are read here",
    NO_WIDTH: "its samples have {} bits",
    NO_CHANNELS: "its header gives no channels",
    MANY_CHANNELS: "has {} channels, at most 1024 are read",
    NO_RATE: "its header gives no valid sample rate (0 Hz?) or channels",
    BAD_RATE: f"sample rate {{}} Hz is not in {MIN_RATE}..{MAX_RATE} Hz",
    BAD_SAMPLES: "has NaN, infinite or absurdly large samples",
    PART_OF_FRAME: "{} bytes are no whole number of {}-byte frames: another --raw or --channels?",
    NO_FRAMES: "has no samples",
    TOO_LONG: "longer than {} min: too long for one result, give a window (--window)",
    NO_PROGRAM: "this program can't tag clips of {} frames",
    BAD_SCORES: "the model gives NaN or infinite scores",
    SYSTEM: "",
}
"""Texts, with places for the numbers; SYSTEM is the system's own, by errno."""
