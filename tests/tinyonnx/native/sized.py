"""A model for any number of frames, with a C program of its own around it."""

from __future__ import annotations

import numpy as np

from tinyonnx import InferenceSession, kernel
from tinyonnx.ir import Array
from tinyonnx.native.kernels import run_sized, unpack
from tinyonnx.native.model import plan_of
from tinyonnx.native.sized import lay_out_sizes
from tinyonnx.native.unit import CONSTANTS, RUNS, UNPACKED, WORDS, Layout, Unit
from tinyonnx.runtime.plan import Plan


@kernel
def run_model(control: Array, words: Array, at: int, count: int, part: int, parts: int) -> None:
    control[0] = run_sized(control[0], words, at, count)


def sized_unit(network: bytes, bounds: tuple[int, ...]) -> Unit:
    session = InferenceSession(network)

    def plan_for(size: int) -> Plan:
        zeros = np.broadcast_to(np.float32(0), (1, 1, 128, size))
        return plan_of(session, ["logits"], {"melspec": zeros})

    layout = Layout()
    control, features, logits = np.zeros(1, np.int64), np.zeros(128 * bounds[-1], np.float32), np.zeros(527, np.float32)
    for name, array in {"control": control, "features": features, "logits": logits}.items():
        layout.map(array, layout.room(name, array.nbytes))
        layout.add_place(layout.place(array), array.nbytes)
    at, count = lay_out_sizes(layout, plan_for, bounds, features, logits)
    layout.add_call(unpack, (RUNS, CONSTANTS, UNPACKED), "<i8 <u4 <u4")
    layout.add_call(run_model, (control, WORDS, at, count), "<i8 <i8 i i")
    return layout.unit
