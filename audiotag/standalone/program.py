"""The program without model and glue: kernels, their arguments, and the memory of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from audiotag import __version__
from audiotag.errors import printable
from audiotag.features import fft_kernel, mel, mel_stream
from audiotag.models.description import Description, efficientat
from audiotag.outputs.jsonl import json_text
from audiotag.sound.windows import MAX_PIECE
from audiotag.standalone import arguments, control, decimals, resampler, samples, texts
from audiotag.standalone import registers as reg
from audiotag.standalone import settings as setting
from audiotag.standalone.arguments import arrange
from audiotag.standalone.decoder import decode
from audiotag.standalone.features import analyse
from audiotag.standalone.records import Input, Ranking, Resampler, Shared, Texts
from audiotag.standalone.report import report
from tinyonnx.codegen.primitives import LANES

if TYPE_CHECKING:
    from tinyonnx.codegen.kernel import Kernel
    from tinyonnx.ir import Array

NAME = "audio-inference"

INPUT, OUTPUT, SAMPLES = 1 << 16, 1 << 21, 1 << 15
"""Sizes: bytes per read; bytes per row (the longest argument that Linux passes, escaped twice); samples at 32 kHz per
analysis."""

TAPE = 60
"""Seconds of the window tape beyond the longest window, so that its content is rarely moved."""

_ALIGNMENT = 64

_CALLS = (
    (arrange, "shared look arguments features texts output"),
    (decode, "shared input values mono resampler samples"),
    (analyse, "shared samples tape features mel_state front_end"),
    (report, "shared arguments logits ranking texts output"),
)
"""Kernels in the order of their numbers (`control.ARRANGE`, ...), with the names of their arguments."""

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
    """The model of the program, for headings and --version; `build` has further lines for the latter."""

    model: str
    sha256: str
    trained: bool = True
    build: str = ""
    description: Description = field(default_factory=efficientat)


class TaggerProgram:
    """The kernels with their memory; see `audiotag.standalone`.

    Args:
        facts: description of the model.
        seconds: length of the longest clip or window that is tagged in one piece.
        features: memory for log-mel features, (mels · frames,) float32; by default allocated here.
        logits: memory for the model's result, (classes,) float32; by default allocated here.
    """

    def __init__(
        self, facts: Facts, seconds: int = int(MAX_PIECE), features: Array | None = None, logits: Array | None = None
    ) -> None:
        self.seconds = seconds
        description = facts.description
        config, classes = description.features, len(description.labels)
        assert config is not None
        self._config = config
        front = mel.front_end(config)
        packed, places = texts.pack(_texts(facts, seconds))
        fixed = {
            "texts": packed, "places": places, "edges": texts.edges(), "curve": resampler.prototype(),
            "model": np.array([description.output == "probabilities"], np.int64),
            "mel_numbers": front.tables.numbers, "mel_indices": front.tables.indices,
        }  # fmt: skip
        self.constants, constants = _allocate({name: (len(x), x.dtype) for name, x in fixed.items()})
        for name, array in fixed.items():
            constants[name][:] = array
        scratch = front.scratch._asdict()
        bits = scratch.pop("bits")  # the memory of `mel`
        given = {name: x for name, x in (("features", features), ("logits", logits)) if x is not None}
        wanted: dict[str, tuple[int, Any]] = {
            "control": (reg.REGISTERS, np.int64),
            "settings": (setting.SETTINGS, np.int64),
            "reals": (setting.REALS, np.float64),
            "look": (arguments.LOOK, np.int64),
            "input": (INPUT, np.uint8),
            "output": (OUTPUT, np.uint8),
            "values": (samples.VALUES, np.float32),
            "mono": (samples.VALUES, np.float32),
            "resampler": (resampler.REGISTERS, np.int64),
            "weights": (resampler.WEIGHTS, np.float32),
            "delayed": (resampler.INPUTS, np.float32),
            "zeros": (LANES, np.float32),
            "sums": (resampler.SUMS, np.float32),
            "samples": (resampler.LARGEST + SAMPLES, np.float32),
            "tape": ((seconds + TAPE) * config.rate, np.float32),
            "mel_registers": (mel_stream.REGISTERS, np.int64),
            "y": (mel_stream.capacity(config.n_fft, config.hop), np.float32),
            **{f"scratch_{name}": (len(x), x.dtype) for name, x in scratch.items()},
            "features": (config.n_mels * config.n_frames(seconds * config.rate), np.float32),
            "logits": (classes, np.float32),
            "scores": (classes, np.float64),
            "order": (classes, np.int64),
            "limbs": (decimals.LIMBS, np.int64),
            "arguments": (0, np.uint8),
        }
        self.memory, own = _allocate({name: size for name, size in wanted.items() if name not in given})
        a = {**constants, **own, **given}
        self.arrays: Mapping[str, Array] = a
        placed = {name: a[f"scratch_{name}"] for name in scratch}
        placed["bits"] = placed["mel"].view(bits.dtype)
        tables = front.tables._replace(numbers=a["mel_numbers"], indices=a["mel_indices"])
        views = (a["input"].view(kind) for kind in (np.int16, np.int32, np.float32, np.float64))
        resampling = ("resampler", "weights", "delayed", "curve", "zeros", "sums")
        records: dict[str, Any] = {
            "shared": Shared(a["control"], a["settings"], a["reals"], a["model"]),
            "input": Input(a["input"], *views),
            "resampler": Resampler(*(a[name] for name in resampling)),
            "ranking": Ranking(a["scores"], a["order"], a["limbs"]),
            "texts": Texts(a["texts"], a["places"], a["edges"]),
            "mel_state": mel_stream.State(a["mel_registers"], a["y"]),
            "front_end": front._replace(tables=tables, scratch=fft_kernel.Scratch(**placed)),
        }
        self.kernels: Sequence[tuple[Kernel, tuple[Any, ...]]] = [
            (kernel, tuple(records[name] if name in records else a[name] for name in names.split()))
            for kernel, names in _CALLS
        ]

    def run(
        self,
        argv: Sequence[bytes],
        model: Callable[[Array], Array],
        stdin: IO[bytes],
        write: Callable[[int, bytes], None],
        piece: int = INPUT,
    ) -> int:
        """Run the program like the executable does and return its exit code.

        Args:
            argv: the command line, starting with the name of the program.
            model: maps features (1, 1, mels, frames) to logits (classes,).
            stdin: standard input.
            write: called with a file descriptor, 1 or 2, and bytes.
            piece: maximum number of bytes per read.
        """
        a, registers = self.arrays, self.arrays["control"]
        words = np.frombuffer(b"".join(word + b"\0" for word in argv), np.uint8)
        file: IO[bytes] = stdin
        self.memory[:] = 0
        while True:
            kernel, given = self.kernels[registers[reg.KERNEL]]
            kernel(*(words if array is a["arguments"] else array for array in given))
            place, count = int(registers[reg.PLACE]), int(registers[reg.COUNT])
            result = 0
            try:
                match int(registers[reg.ACTION]):
                    case control.OPEN:
                        name = words[place:].tobytes().partition(b"\0")[0]
                        file = stdin if place < 0 else open(name, "rb", buffering=0)  # noqa: SIM115  open until CLOSE
                    case control.READ:
                        data = file.read(min(piece, len(a["input"]) - count))
                        a["input"][count : count + len(data)] = np.frombuffer(data, np.uint8)
                        result = len(data)
                    case control.MODEL:
                        frames = registers[reg.FRAMES]
                        features = a["features"][: self._config.n_mels * frames]
                        a["logits"][:] = model(features.reshape(1, 1, -1, frames))
                    case control.WRITE:
                        write(place, a["output"][:count].tobytes())
                    case control.CLOSE if file is not stdin:
                        file.close()
                    case control.EXIT:
                        return place
            except OSError as error:
                result = -(error.errno or 5)
            registers[reg.RESULT] = result


def _allocate(sizes: Mapping[str, tuple[int, Any]]) -> tuple[Array, dict[str, Array]]:
    """Allocate a zeroed block and arrays of the given lengths and types in it."""
    lengths = [n * np.dtype(kind).itemsize for n, kind in sizes.values()]
    starts = np.cumsum([0, *(-(-length // _ALIGNMENT) * _ALIGNMENT for length in lengths)])
    memory = np.zeros(starts[-1] + _ALIGNMENT, np.uint8)
    skipped = -memory.ctypes.data % _ALIGNMENT
    block = memory[skipped : skipped + starts[-1]]
    parts = zip(sizes.items(), starts, lengths)
    return block, {name: block[start : start + length].view(kind) for (name, (_, kind)), start, length in parts}


def _texts(facts: Facts, seconds: int) -> dict[int, str]:
    """All texts by their numbers in `texts`."""
    warning = "" if facts.trained else ": untrained, scores mean nothing"
    model = json_text({"name": facts.model, "sha256": facts.sha256})
    version = f"{NAME} {__version__}\nmodel {printable(facts.model)}{warning}, sha256 {facts.sha256}\n{facts.build}"
    return {
        **texts.FIXED,
        **texts.system_texts(),
        **{texts.PROBLEM_TEXT + code: text for code, text in control.PROBLEMS.items()},
        texts.PROBLEM_TEXT + control.TOO_LONG: control.PROBLEMS[control.TOO_LONG].format(f"{seconds / 60:g}"),
        **{texts.OPTION_TEXT + number: name for number, name in enumerate(arguments.OPTIONS)},
        **{texts.WRONG_TEXT + code: text for code, text in arguments.WRONG.items()},
        **{texts.LABEL + 2 * label.index: label.name for label in facts.description.label_set},
        **{texts.LABEL + 2 * label.index + 1: _json_label(label) for label in facts.description.label_set},
        texts.PROGRAM: f"{NAME}: ",
        texts.HELP: HELP.format(name=NAME, seconds=seconds, classes=len(facts.description.labels)),
        texts.VERSION: version,
        texts.HEADING_END: f"  [{printable(facts.model)}{warning}]\n",
        texts.JSON_END: f', "model": {model}, "audiotag": {json_text(__version__)}',
        texts.JSON_CLOSE: "}\n",
    }


def _json_label(label: Any) -> str:
    """The JSON of a tag up to its score."""
    return json_text({"label": label.name, "mid": label.mid, "index": label.index})[:-1] + ', "score": '
