"""Squeeze-and-excitation in one step: mean over the pixels, two small products, scaling of the channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.ir import Array, ConstantPool
from tinyonnx.kernels._arrays import NO_BIAS, Epilogue, activation_refused, epilogue_of, flat, float32_refused
from tinyonnx.kernels._jit import jit
from tinyonnx.kernels.elementwise import activate, take
from tinyonnx.kernels.pool import mean
from tinyonnx.ops.fused import squeeze_excite
from tinyonnx.registry import Call, Info, fast


@jit
def linear(x: Array, w: Array, bias: Array, out: Array, k: int, n: int, epilogue: Epilogue) -> None:
    """out[n] = activation(x[k] · w[k, n] + bias)."""
    for j in range(n):
        out[j] = bias[j]
    for i in range(k):
        value = x[i]
        row = w[i * n : (i + 1) * n]
        for j in range(n):
            out[j] += value * row[j]
    activate(out, epilogue[1], epilogue[2], epilogue[3])


@jit
def excite(
    x: Array, shape: tuple[int, int, int, int], w1: Array, b1: Array, w2: Array, b2: Array, scratch: Array,
    out: Array, activation: Epilogue, gate: Epilogue,
) -> None:  # fmt: skip
    """Images [batch, pixels, c] with `s` squeezed units, `shape` = (batch, pixels, c, s); scratch holds 2 c + s."""
    batch, pixels, c, s = shape
    squeezed, scale, hidden = scratch[:c], scratch[c : 2 * c], scratch[2 * c : 2 * c + s]
    for item in range(batch):
        start = item * pixels * c
        mean(x, start, pixels, c, squeezed, 0, scale)
        linear(squeezed, w1, b1, hidden, c, s, activation)
        linear(hidden, w2, b2, scale, s, c, gate)
        for p in range(pixels):
            at = start + p * c
            target = out[at : at + c]
            take(x[at : at + c], target)
            for i in range(c):
                target[i] *= scale[i]


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
) -> Call:  # fmt: skip
    """Weights are used as they are."""
    c, s = w1.shape
    batch = x.shape[0]

    def vector(array: Array | None, size: int) -> Array:
        if array is None:
            return np.asarray(pool.derive(("zeros", size), lambda _: np.zeros(size, np.float32), NO_BIAS))
        # a copy because constants may be read-only, for which numba would compile anew
        return np.asarray(pool.derive("flat", lambda a: np.array(a, np.float32).reshape(-1), array))

    weights = vector(w1, c * s), vector(b1, s), vector(w2, c * s), vector(b2, c)
    epilogues = epilogue_of(activation, activation_alpha, activation_beta), epilogue_of(gate, gate_alpha, gate_beta)
    shape = (batch, x.size // (batch * c), c, s)
    return Call(excite, (flat(x), shape, *weights, np.empty(2 * c + s, np.float32), flat(out), *epilogues))
