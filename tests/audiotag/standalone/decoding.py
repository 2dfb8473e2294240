"""The decoder as a function of bytes."""

from __future__ import annotations

import numpy as np

from audiotag.standalone import control, registers, resampler, samples, settings
from audiotag.standalone.decoder import decode
from audiotag.standalone.records import Input, Resampler, Shared
from audiotag.standalone.resampler import prototype
from tinyonnx.codegen.kernel import _UNUSED, DISABLED
from tinyonnx.codegen.primitives import LANES
from tinyonnx.kernels import BoundKernel


class Decoder:
    """The kernel and its memory; it may be used for one clip after the other."""

    def __init__(self, size=1 << 16, room=1 << 15):
        self.c, self.settings = np.zeros(64, np.int64), np.zeros(64, np.int64)
        block = np.empty(size, np.uint8)
        self.data = block
        views = [block.view(kind) for kind in (np.uint8, np.int16, np.int32, np.float32, np.float64)]
        values, mono = (np.full(samples.VALUES, np.nan, np.float32) for _ in range(2))
        self.samples = np.full(resampler.LARGEST + room, np.nan, np.float32)
        resampling = Resampler(
            np.zeros(resampler.REGISTERS, np.int64), np.zeros(resampler.WEIGHTS, np.float32),
            np.full(resampler.INPUTS, np.nan, np.float32), prototype(), np.zeros(LANES, np.float32),
            np.zeros(resampler.SUMS, np.float32),
        )  # fmt: skip
        shared = Shared(self.c, self.settings, np.zeros(settings.REALS), np.zeros(settings.MODEL_FACTS, np.int64))
        self.arguments = (shared, Input(*views), values, mono, resampling, self.samples)
        self.bound = BoundKernel(decode, self.arguments)

    def step(self):
        """One call of the kernel, which must not fail, as one compiled with NUMBA_BOUNDSCHECK=1 can."""
        if DISABLED:
            self.bound.run(0, 1)
        else:
            failed = self.bound._entry(_UNUSED, _UNUSED, self.bound.row_address, 0, 1)
            assert not failed, "the kernel uses an index outside its array"

    def __call__(self, content, piece=1 << 30, raw=(0, 0, 0)):
        """(what is wrong, samples) of a file that comes in pieces; raw: encoding, channels, rate."""
        c, data, at, found = self.c, self.data, 0, []
        self.settings[:3] = raw
        c[registers.ACTION], c[registers.RESULT] = control.OPEN, 0
        for _ in range(3 * len(content) + 100):
            self.step()
            if c[registers.KERNEL] == control.REPORT:
                return int(c[registers.PROBLEM]), np.concatenate([*found, np.empty(0, np.float32)])
            if c[registers.KERNEL] == control.ANALYSE:
                found.append(self.samples[: c[registers.SAMPLES]].copy())
                c[registers.SAMPLES] = 0
                if c[registers.LAST]:
                    return 0, np.concatenate(found)
            else:
                assert c[registers.ACTION] == control.READ
                begin = int(c[registers.COUNT])
                size = min(piece, len(data) - begin, len(content) - at)
                assert len(data) > begin
                data[begin : begin + size] = np.frombuffer(content[at : at + size], np.uint8)
                data[begin + size :] = 0x55
                at += size
                c[registers.RESULT] = size
        raise AssertionError("no end")
