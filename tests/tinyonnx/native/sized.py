"""A model for any number of frames, with a C program of its own around it."""

from __future__ import annotations

import numpy as np

from tinyonnx import InferenceSession, kernel
from tinyonnx.ir import Array
from tinyonnx.native.kernels import run_sized, unpack
from tinyonnx.native.sized import lay_out_sizes, plan_for_size
from tinyonnx.native.unit import UNPACK, UNPACK_KINDS, WORDS, Unit, UnitLayout
from tinyonnx.runtime.sized import SizedPlan


@kernel
def run_model(
    control: Array, words: Array, at: int, count: int, arena: Array, source: Array, target: Array, part: int,
    parts: int,
) -> None:  # fmt: skip
    control[0] = run_sized(control[0], words, at, count, arena, source, target)


def sized_unit(network: bytes, first: int, last: int) -> Unit:
    session = InferenceSession(network)

    def plan_for(size: int) -> SizedPlan:
        zeros = np.broadcast_to(np.float32(0), (1, 1, 128, size))
        return plan_for_size(session, ["logits"], {"melspec": zeros}, "melspec", 3)

    layout = UnitLayout()
    control, features, logits = np.zeros(1, np.int64), np.zeros(128 * last, np.float32), np.zeros(527, np.float32)
    for name, array in {"control": control, "features": features, "logits": logits}.items():
        layout.map(array, layout.room(name, array.nbytes))
        layout.add_place(layout.place(array), array.nbytes)
    model = lay_out_sizes(layout, plan_for, first, last)
    layout.add_call(unpack, UNPACK, UNPACK_KINDS)
    arena = layout.room("arena", model.arena_bytes), model.arena_bytes // 4
    layout.add_call(
        run_model, (control, WORDS, model.at, model.variants, arena, features, logits), "<i8 <i8 i i <f4 <f4 <f4"
    )  # fmt: skip
    return layout.finished()
