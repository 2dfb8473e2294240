"""The kernels of the program and their memory, without the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from audiotag.features import fft_kernel, mel, mel_stream
from audiotag.models.description import Description
from audiotag.standalone import kernels, registers, resampler, samples
from audiotag.standalone.kernels import Input, Resampler
from tinyonnx.codegen.primitives import LANES

if TYPE_CHECKING:
    from tinyonnx.codegen.kernel import Kernel
    from tinyonnx.ir import Array

INPUT = 1 << 16
"""Bytes per read."""

SILENCE = 1024
"""Samples of silence that are analysed at a time."""

MAPPED = ("tape", "features")
"""Arrays that are empty here; C maps memory for them when it knows how much is needed."""

_ALIGNMENT = 64

_ANALYSE = kernels.analyse, "integers tape features silence mel_state front_end"
_COLLECT = kernels.collect, "integers tape features mel_state"


def _calls(analyse: tuple[Kernel, str]) -> tuple[tuple[Kernel, str], ...]:
    """Return the kernels in the order of `source.CALLS`, with the names of their arguments."""
    return (
        (kernels.mix, "integers reals input values mono"),
        (kernels.resample, "integers resampler mono tape"),
        analyse,
        (kernels.choose, "integers reals logits scores sums_of_scores order"),
    )


class TaggerProgram:
    """The kernels with their memory; see `audiotag.standalone`."""

    def __init__(self, description: Description) -> None:
        config, classes = description.features, len(description.labels)
        front = None if config is None else mel.front_end(config)
        fixed = {"curve": resampler.prototype()}
        scratch: dict[str, Array] = {}
        if front is not None:
            fixed |= {"mel_numbers": front.tables.numbers, "mel_indices": front.tables.indices}
            scratch = front.scratch._asdict()
            scratch.pop("bits")  # the memory of `mel`
        self.constants, constants = _allocate({name: (len(x), x.dtype) for name, x in fixed.items()})
        for name, array in fixed.items():
            constants[name][:] = array
        weights, inputs = resampler.lengths(description.rate)
        self.memory, own = _allocate(
            {
                "integers": (registers.INTEGERS, np.int64),
                "reals": (registers.REALS, np.float64),
                "input": (INPUT, np.uint8),
                "values": (samples.VALUES, np.float32),
                "mono": (samples.VALUES, np.float32),
                "resampler": (resampler.REGISTERS, np.int64),
                "weights": (weights, np.float32),
                "delayed": (inputs, np.float32),
                "zeros": (LANES, np.float32),
                "sums": (resampler.SUMS, np.float32),
                "silence": (SILENCE, np.float32),
                "mel_registers": (mel_stream.REGISTERS, np.int64),
                "y": (mel_stream.capacity(config.n_fft, config.hop) if config else 0, np.float32),
                **{f"scratch_{name}": (len(x), x.dtype) for name, x in scratch.items()},
                "logits": (classes, np.float32),
                "scores": (classes, np.float64),
                "sums_of_scores": (classes, np.float64),
                "order": (classes, np.int64),
            }
        )
        a = {**constants, **own, **{name: np.empty(0, np.float32) for name in MAPPED}}
        self.arrays: Mapping[str, Array] = a
        views = (a["input"].view(kind) for kind in (np.int16, np.int32, np.float32, np.float64))
        resampling = ("resampler", "weights", "delayed", "curve", "zeros", "sums")
        records: dict[str, Any] = {
            "input": Input(a["input"], *views),
            "resampler": Resampler(description.rate, *(a[name] for name in resampling)),
            "mel_state": mel_stream.State(a["mel_registers"], a["y"]),
        }
        if front is not None:
            placed = {name: a[f"scratch_{name}"] for name in scratch}
            placed["bits"] = placed["mel"].view(front.scratch.bits.dtype)
            tables = front.tables._replace(numbers=a["mel_numbers"], indices=a["mel_indices"])
            records["front_end"] = front._replace(tables=tables, scratch=fft_kernel.Scratch(**placed))
        self.kernels: Sequence[tuple[Kernel, tuple[Any, ...]]] = [
            (kernel, tuple(records[name] if name in records else a[name] for name in names.split()))
            for kernel, names in _calls(_COLLECT if front is None else _ANALYSE)
        ]
        self.places = [a[name] for name in ("integers", "reals", "input", "mono", "scores", "order")]
        """The arrays of `source.PLACES` except the last."""


def _allocate(sizes: Mapping[str, tuple[int, Any]]) -> tuple[Array, dict[str, Array]]:
    """Allocate a zeroed block and arrays of the given lengths and types in it."""
    lengths = [n * np.dtype(kind).itemsize for n, kind in sizes.values()]
    starts = np.cumsum([0, *(-(-length // _ALIGNMENT) * _ALIGNMENT for length in lengths)])
    memory = np.zeros(starts[-1] + _ALIGNMENT, np.uint8)
    skipped = -memory.ctypes.data % _ALIGNMENT
    block = memory[skipped : skipped + starts[-1]]
    parts = zip(sizes.items(), starts, lengths)
    return block, {name: block[start : start + length].view(kind) for (name, (_, kind)), start, length in parts}
