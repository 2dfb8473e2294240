"""Squeeze-and-excitation: mean over the pixels, two small products, scaling of the channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.ir import Array, ConstantPool
from tinyonnx.kernels._arrays import activation_refused, epilogue_of, flat, float32_refused
from tinyonnx.kernels._kernel import kernel, share
from tinyonnx.kernels.elementwise import take
from tinyonnx.kernels.gemm import linear
from tinyonnx.kernels.pool import global_mean
from tinyonnx.ops.fused import squeeze_excite
from tinyonnx.registry import Call, Info, fast


@kernel
def scale_channels(
    x: Array, batch: int, pixels: int, channels: int, scale: Array, out: Array, part: int, parts: int
) -> None:
    """Images x[batch, pixels, channels] times scale[batch, channels]; `out` may be `x`."""
    first, end = share(batch * pixels, part, parts)
    for p in range(first, end):
        item = p // pixels
        factors = scale[item * channels : (item + 1) * channels]
        target = out[p * channels : (p + 1) * channels]
        take(x[p * channels : (p + 1) * channels], target)
        for c in range(channels):
            target[c] *= factors[c]


def _refused(
    out: Info, x: Info | None, w1: Info | None, b1: Info | None, w2: Info | None, b2: Info | None = None, *,
    activation: str = "Relu", gate: str = "Sigmoid", **_: Any,
) -> str | None:  # fmt: skip
    constants = (w1, b1, w2, b2)
    if any(i is not None and i.value is None for i in constants) or x is None or x.value is not None:
        return "weights are not constant, or the input is"
    if w1 is None or w2 is None or out.shape is None or len(out.shape) < 3:
        return "no spatial axes"
    if w1.shape is None or w1.shape != (out.shape[1], w1.shape[-1]) or w2.shape != w1.shape[::-1]:
        return "weights don't fit"
    return activation_refused(activation) or activation_refused(gate) or float32_refused(out, x, *constants)


@fast(squeeze_excite, when=_refused, in_place=True)
def bind_squeeze_excite(
    pool: ConstantPool, out: Array, x: Array, w1: Array, b1: Array | None, w2: Array, b2: Array | None = None, *,
    activation: str = "Relu", activation_alpha: float = 0.0, activation_beta: float = 0.0,
    gate: str = "Sigmoid", gate_alpha: float = 0.0, gate_beta: float = 0.0,
) -> list[Call]:  # fmt: skip
    """Four phases, each of which needs all of the one before."""
    c, s = w1.shape
    batch = x.shape[0]
    pixels = x.size // (batch * c)
    squeezed, partial, hidden, scale = (np.empty(batch * n, np.float32) for n in (c, c, s, c))
    source, target = flat(x), flat(out)
    first = epilogue_of(activation, activation_alpha, activation_beta)
    second = epilogue_of(gate, gate_alpha, gate_beta)
    return [
        Call(global_mean, (source, batch, pixels, c, squeezed, partial)),
        linear(pool, squeezed, w1, b1, hidden, first),
        linear(pool, hidden, w2, b2, scale, second),
        Call(scale_channels, (source, batch, pixels, c, scale, target)),
    ]
