"""The resampler as a function of arrays."""

from __future__ import annotations

import numpy as np

from audiotag.native import resampler
from audiotag.native.resampler import accept, produce, start
from tinyonnx import kernel
from tinyonnx.kernels._tiles import LANES

CURVE = resampler.prototype()


@kernel
def run(x, rate, block, registers, weights, inputs, curve, zeros, sums, out, ends, part, parts):
    start(registers, rate, weights, inputs, curve)
    end, at, produced = 0, 0, -1
    while at < len(x):
        at += accept(registers, x, at, min(at + block, len(x)), inputs)
        end = produce(registers, False, inputs, weights, zeros, sums, out, end)
    while produced != end:
        produced = end
        end = produce(registers, True, inputs, weights, zeros, sums, out, end)
    ends[0] = end


class Resampler:
    def __init__(self):
        self.registers = np.zeros(resampler.REGISTERS, np.int64)
        self.weights = np.zeros(resampler.WEIGHTS, np.float32)
        self.inputs = np.full(resampler.INPUTS, np.nan, np.float32)
        self.work = CURVE, np.zeros(LANES, np.float32), np.zeros(resampler.SUMS, np.float32)

    def __call__(self, x, rate, block=8192):
        n = round(len(x) * 32000 / rate) + 1
        out, ends = np.full(n + resampler.LARGEST, np.nan, np.float32), np.zeros(1, np.int64)
        run(
            np.ascontiguousarray(x, np.float32),
            rate,
            block,
            self.registers,
            self.weights,
            self.inputs,
            *self.work,
            out,
            ends,
        )
        return out[: ends[0]]
