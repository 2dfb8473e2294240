"""A model for any size of an axis of its input, with a C program of its own around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinyonnx import InferenceSession, kernel
from tinyonnx.codegen.targets import TargetMachine
from tinyonnx.ir import Array
from tinyonnx.native.kernels import run_sized, unpack
from tinyonnx.native.levels import units
from tinyonnx.native.products import PROCESS, link_units
from tinyonnx.native.sized import lay_out_sizes, plan_for_size
from tinyonnx.native.unit import UNPACK, UNPACK_KINDS, WORDS, Unit, UnitLayout
from tinyonnx.runtime.sized import SizedPlan


@kernel
def run_model(
    control: Array, words: Array, at: int, count: int, arena: Array, source: Array, target: Array, part: int,
    parts: int,
) -> None:  # fmt: skip
    control[0] = run_sized(control[0], words, at, count, arena, source, target)


def sized_unit(
    network: bytes, output: str, count: int, shape: Sequence[int], axis: int, sizes: tuple[int, int]
) -> Unit:
    """Return the unit of a network with an output of `count` numbers.

    `shape` is that of its one input, for the least and the greatest of the `sizes` of an `axis`.
    """
    session = InferenceSession(network)
    (input,) = [i.name for i in session.get_inputs()]

    def shape_for(size: int) -> list[int]:
        return [*shape[:axis], size, *shape[axis + 1 :]]

    def plan_for(size: int) -> SizedPlan:
        zeros = np.broadcast_to(np.float32(0), shape_for(size))
        return plan_for_size(session, [output], {input: zeros}, input, axis)

    layout = UnitLayout()
    control, source = np.zeros(2, np.int64), np.zeros(math.prod(shape_for(sizes[1])), np.float32)
    target = np.zeros(count, np.float32)
    for name, array in {"control": control, "source": source, "target": target}.items():
        layout.map(array, layout.room(name, array.nbytes))
        layout.add_place(layout.place(array), array.nbytes)
    model = lay_out_sizes(layout, plan_for, *sizes)
    layout.add_call(unpack, UNPACK, UNPACK_KINDS)
    arena = layout.room("arena", model.arena_bytes), model.arena_bytes // 4
    layout.add_call(
        run_model, (control, WORDS, model.at, model.variants, arena, source, target), "<i8 <i8 i i <f4 <f4 <f4"
    )  # fmt: skip
    return layout.finished()


def build(
    target: TargetMachine, file: Path, network: bytes, output: str, count: int, shape: Sequence[int], axis: int,
    sizes: tuple[int, int],
) -> None:  # fmt: skip
    """Build the program of `sized.c` around a unit of `sized_unit`."""
    found = units(target, sized_unit, network, output, count, shape, axis, sizes)
    link_units(target, found, {}, file, sources=[Path(__file__).parent / "sized.c", PROCESS])


def message(x: Array, axis: int) -> bytes:
    """Return the bytes that the program reads for one input."""
    return np.array([x.shape[axis], x.nbytes], np.int64).tobytes() + x.tobytes()
