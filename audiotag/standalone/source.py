"""The C that is generated for the front end: numbers and texts that the Python package also has, and the model's texts.

The other C sources are in the folder `c`.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from audiotag import __version__
from audiotag.errors import printable
from audiotag.features import mel
from audiotag.models.description import Description, efficientat
from audiotag.outputs.jsonl import json_text
from audiotag.sound import channels, pcm, wav_header, windows
from audiotag.sound.audio import MAX_CHANNELS, MAX_RATE, MIN_RATE
from audiotag.standalone import registers, resampler, samples

if TYPE_CHECKING:
    from tinyonnx.ir import Array

NAME = "audio-inference"

FOLDER = Path(__file__).parent / "c"

CALLS = ("UNPACK", "MODEL", "SIZE", "MIX", "RESAMPLE", "ANALYSE", "RANK")
"""Calls of kernels by number: those of `build`, then those of `program`."""

ROOMS = {"TAPE": 2, "FEATURES": 2, "ARENA": 1}
"""Memory that is mapped when it is needed, and the number of kernels that use it, each of which has a cell for it."""

PLACES = ("INTEGERS", "REALS", "INPUT", "MONO", "SCORES", "ORDER", "UNPACKED")
"""Places by number, followed by those of rooms."""

_SYSTEM_ERRORS = 134
"""Upper bound of Linux's error numbers, which start at 1; the text of this number is for all other errors."""

HELP = """\
usage: {name} [options] FILE... | -

Tags sounds with {classes} classes. Files are WAV: PCM of 8 to 32 bits or floats, at any
sample rate, with any number of channels; - is standard input.

  --top N              maximum number of tags (default: 10)
  --threshold P        omit tags with a score below P
  --window SECONDS     tag windows of this length, up to {seconds}
  --hop SECONDS        time between window starts (default: the window length)
  --json               one JSON object per line, also for failures
  --raw f32le|s16le    standard input has samples without a header,
    --rate HZ          of this sample rate,
    --channels N       with this number of channels (default: 1)
  --version, --help

Exit codes: 0 success, 1 a file could not be read, 2 wrong usage.
"""


@dataclass(frozen=True)
class Facts:
    """The model of the program, for headings and --version; `build` has further lines for the latter.

    Rows name a `precision` other than float32, as `audiotag.results.Result.precision`.
    """

    model: str
    sha256: str
    trained: bool = True
    build: str = ""
    description: Description = field(default_factory=efficientat)
    precision: str = "float32"


def constants() -> str:
    """Return the header `constants.h`."""
    numbers = {
        **_named("N_", registers, registers.INTEGERS, "ENCODING"),
        **_named("R_", registers, registers.REALS, "PEAK"),
        **{f"CALL_{name}": i for i, name in enumerate(CALLS)},
        **_places(),
        **{f"{name}_CELLS": count for name, count in ROOMS.items()},
        **{name: getattr(samples, name) for name in ("UNSIGNED_8", "SIGNED_16", "FLOAT_32", "FLOAT_64", "VALUES")},
        "MIN_RATE": MIN_RATE, "MAX_RATE": MAX_RATE, "MAX_CHANNELS": MAX_CHANNELS,
        "LARGEST_BLOCK": resampler.LARGEST, "TRAILER": wav_header.TRAILER, "LARGEST_CHUNK": wav_header.LARGEST_CHUNK,
        "LOOK": channels.LOOK, "BROKEN_PIPE": errno.EPIPE,
    }  # fmt: skip
    reals = {
        "MAX_PEAK": channels.MAX_PEAK, "MAX_PLAUSIBLE_PEAK": channels.MAX_PLAUSIBLE_PEAK, "ENOUGH": channels.ENOUGH,
        "AUDIBLE": channels.AUDIBLE, "CANCELLING": channels.CANCELLING, "MIN_HOP": windows.MIN_HOP,
        "MIN_WINDOW": windows.MIN_WINDOW, "MAX_REMAINDER": windows.MAX_REMAINDER, "SHORTEST": windows.SHORTEST,
    }  # fmt: skip
    texts = {
        "PROGRAM": f"{NAME}: ",
        "TOO_LOUD": _template(channels.TOO_LOUD),
        "CHANNELS_CANCEL": _template(channels.CANCELLED),
        "HAS_FEWER_SAMPLES": _template(pcm.ENDS_EARLY),
        "HAS_MORE_SAMPLES": _template(pcm.GOES_ON),
        "TOO_SHORT": _template(windows.TOO_SHORT),
        "BAD_RATE": f"sample rate %d Hz is not in {MIN_RATE}..{MAX_RATE} Hz",
        "WRONG_RATE": f"a rate from {MIN_RATE} to {MAX_RATE} Hz must follow",
        "WRONG_CHANNELS": f"a number from 1 to {MAX_CHANNELS} must follow",
        "WRONG_HOP": f"seconds from {windows.MIN_HOP:g} on must follow",
        "MANY_CHANNELS": f"has %d channels, at most {MAX_CHANNELS} are read",
    }
    chunks = ", ".join(f"0x{int.from_bytes(name, 'little'):08x}" for name in wav_header.UNSIZED_CHUNKS)
    lines = [f"#define {name} {value}" for name, value in numbers.items()]
    lines += [f"#define {name} {float(value)!r}" for name, value in reals.items()]
    lines += [f"#define {name} {quoted(text)}" for name, text in texts.items()]
    return "\n".join([*lines, f"#define UNSIZED_CHUNKS {chunks}", ""])


class FrontEndSizes(NamedTuple):
    """Sizes of a front end, as C computes with them; that of a model of waveforms has a row of samples as its frames.

    `shortest` is the number of samples to which shorter sounds are padded, `longest` the seconds of the longest clip
    or window in one piece; `piece` the seconds of the pieces into which longer clips are cut, 0 if they are not.
    """

    rate: int
    n_mels: int
    n_fft: int
    hop: int
    padding: int
    least: int
    lost: int
    shortest: int
    longest: float
    piece: float

    def frames_of(self, n_samples: int) -> int:
        """Number of frames of a clip."""
        used = max(n_samples, self.shortest, self.least + self.lost) - self.lost
        return 1 + (used + 2 * self.padding - self.n_fft) // self.hop

    @property
    def longest_frames(self) -> int:
        """Number of frames of the longest clip in one piece."""
        return self.frames_of(round(self.longest * self.rate))


def front_end_sizes(description: Description, seconds: int) -> FrontEndSizes:
    """Return the sizes of a model's front end, for a program that tags clips of up to `seconds` in one piece."""
    piece = description.lengths.longest or 0.0
    ends = description.missing(0), min(float(seconds), piece or seconds), piece
    config = description.features
    if config is None:
        return FrontEndSizes(description.rate, 1, 1, 1, 0, 1, 0, *ends)
    padding, least, lost, _ = mel.front_end(config).ends
    return FrontEndSizes(config.rate, config.n_mels, config.n_fft, config.hop, padding, least, lost, *ends)


def facts_source(facts: Facts, seconds: int) -> str:
    """Return the C file with the model's constants, for a program that tags clips of up to `seconds` in one piece."""
    description = facts.description
    labels, sizes = description.label_set, front_end_sizes(description, seconds)
    warning = "" if facts.trained else ": untrained, scores mean nothing"
    precision = {} if facts.precision == "float32" else {"precision": facts.precision}
    model = json_text({"name": facts.model, "sha256": facts.sha256, **precision})
    version = f"{NAME} {__version__}\nmodel {printable(facts.model)}{warning}, sha256 {facts.sha256}\n{facts.build}"
    range_ = f"seconds from {windows.MIN_WINDOW:g} to {sizes.longest:g} must follow"
    fields = {
        "help": quoted(HELP.format(name=NAME, seconds=f"{sizes.longest:g}", classes=len(labels))),
        "version": quoted(version),
        "heading_end": quoted(f"  [{printable(facts.model)}{warning}]\n"),
        "json_end": quoted(f', "model": {model}, "audiotag": {json_text(__version__)}'),
        "too_long": quoted(f"longer than {seconds / 60:g} min: too long for one result, use windows (--window)"),
        "wrong_window": quoted(range_),
        "labels": "labels",
        "system_errors": "system_errors",
        "system_error_count": _SYSTEM_ERRORS + 1,
        "edges": "edges",
        "edge_count": len(edges()),
        "scores_are_probabilities": int(description.output == "probabilities"),
        **sizes._asdict(),
        "longest_frames": sizes.longest_frames,
    }
    rows = (
        f"{{{quoted(label.name)}, {quoted(_json_label(label.name, label.mid, label.index))}}}"
        for label in sorted(labels, key=lambda label: label.index)
    )
    errors = (quoted(text) for text in [*map(os.strerror, range(_SYSTEM_ERRORS)), "Unknown error"])
    return "\n".join(
        [
            '#include "program.h"',
            _array("struct label labels", rows),
            _array("char *const system_errors", errors),
            _array("int32_t edges", map(str, edges().tolist())),
            "const struct facts facts = {",
            *(f"    .{name} = {value}," for name, value in fields.items()),
            "};",
            "",
        ]
    )


def edges() -> Array:
    """Return the code points at which printable and unprintable ranges alternate, beginning with an unprintable one."""
    printables = np.array([chr(code).isprintable() for code in range(sys.maxunicode + 1)])
    starts: Array = np.flatnonzero(np.diff(printables, prepend=True)).astype(np.int32)
    return starts


def quoted(text: str) -> str:
    """Return a text as a C string literal."""
    return '"' + "".join(map(_escaped, text.encode())) + '"'


def _escaped(byte: int) -> str:
    return chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}"


def _template(text: str) -> str:
    """Convert a Python template to one for `put_format`."""
    return text.replace("%", "%%").replace("{:.2f}", "%f").replace("{}", "%d")


def _named(prefix: str, module: object, count: int, first: str) -> dict[str, int]:
    """Return the numbers, from one on, that a module defines, with a prefix."""
    names = list(vars(module))
    at = names.index(first)
    return {prefix + name: getattr(module, name) for name in names[at : at + count]}


def _places() -> dict[str, int]:
    found = {f"PLACE_{name}": i for i, name in enumerate(PLACES)}
    at = len(found)
    for name, cells in ROOMS.items():
        found[f"PLACE_{name}"] = at
        at += cells
    return found


def _array(declaration: str, items: Iterable[str]) -> str:
    return f"static const {declaration}[] = {{\n" + "".join(f"    {item},\n" for item in items) + "};"


def _json_label(name: str, mid: str, index: int) -> str:
    """Return the JSON of a tag up to its score."""
    return json_text({"label": name, "mid": mid, "index": index})[:-1] + ', "score": '


def texts(facts: Facts, seconds: int) -> Mapping[str, str]:
    """Return the generated files by name."""
    return {"constants.h": constants(), "facts.c": facts_source(facts, seconds)}
