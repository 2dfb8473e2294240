"""Records of the arrays that kernels share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tinyonnx.ir import Array


class Shared(NamedTuple):
    """Arrays that all kernels share: `registers`, the two kinds of `settings`, and the constants of the model."""

    control: Array
    settings: Array
    reals: Array
    model: Array


class Input(NamedTuple):
    """The bytes that were read, and views of the same memory as numbers."""

    data: Array
    shorts: Array
    ints: Array
    floats: Array
    doubles: Array


class Resampler(NamedTuple):
    """The registers and the memory of `resampler`; `curve` and `zeros` are constants."""

    registers: Array
    weights: Array
    inputs: Array
    curve: Array
    zeros: Array
    sums: Array


class Ranking(NamedTuple):
    """Scores of all classes, indices of the best ones, and memory for formatting numbers."""

    scores: Array
    order: Array
    limbs: Array


class Texts(NamedTuple):
    """The table of texts (`texts.pack`), and the ranges of printable characters (`texts.edges`)."""

    data: Array
    places: Array
    edges: Array
