"""Squeeze-and-excitation: the gate of each channel, and 1×1 convolutions of a gated image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinyonnx.codegen.arguments import Specialised, Static
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import (
    LANES,
    LINEAR,
    LOOPED,
    PAIRS,
    POSTPONED,
    Epilogue,
    Lines,
    Pixels,
    Rows,
    Weights,
    Window,
)
from tinyonnx.ir import Array
from tinyonnx.kernels._common import (
    Layer,
    Product,
    activation_refused,
    epilogue_of,
    flat,
    float32_refused,
    image,
    memory_or,
    temporary,
)
from tinyonnx.kernels.depthwise import convolve_looped
from tinyonnx.kernels.elementwise import activate
from tinyonnx.kernels.gemm import (
    BLOCK,
    Panels,
    linear,
    multiply,
    multiply_typed,
    pack_panels,
    pack_rounded,
    panel_width,
    pointwise_layer,
    round_rows,
    share_product,
)
from tinyonnx.kernels.pointwise import pointwise_refused
from tinyonnx.kernels.pool import global_mean
from tinyonnx.ops.conv import ConvAttributes
from tinyonnx.ops.fused import Activation
from tinyonnx.ops.gated import gated_conv, squeeze_gate
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool

_ZERO = np.float32(0)
_NO_BIAS = np.zeros(LANES, np.float32)


def _gate_refused(
    out: Info, x: Info | None, w1: Info | None, b1: Info | None, w2: Info | None, b2: Info | None = None, *,
    activation: Activation = Activation(name="Relu"), gate: Activation = Activation(name="Sigmoid"),
) -> str | None:  # fmt: skip
    constants = (w1, b1, w2, b2)
    if any(i is not None and i.value is None for i in constants) or x is None or x.value is not None:
        return "weights are not constant, or the input is"
    if w1 is None or w2 is None or out.shape is None or len(out.shape) < 3:
        return "no spatial axes"
    if w1.shape is None or w1.shape != (out.shape[1], w1.shape[-1]) or w2.shape != w1.shape[::-1]:
        return "weights don't fit"
    return activation_refused(activation) or activation_refused(gate) or float32_refused(out, x, *constants)


@fast(squeeze_gate, when=_gate_refused, by_item=True, rounds=True)
def bind_squeeze_gate(
    pool: ConstantPool, out: Array, x: Array, w1: Array, b1: Array | None, w2: Array, b2: Array | None = None, *,
    activation: Activation = Activation(name="Relu"), gate: Activation = Activation(name="Sigmoid"),
    rounded: bool = False,
) -> list[Call]:  # fmt: skip
    """Bind three kernels, each of which needs the complete result of the one before."""
    c, s = w1.shape
    batch = x.shape[0]
    pixels = x.size // (batch * c)
    mean, partial, hidden = (temporary(batch * n) for n in (c, c, s))
    return [
        Call(global_mean, (flat(x), batch, pixels, c, mean, partial)),
        linear(pool, mean, w1, b1, hidden, epilogue_of(activation), rounded),
        linear(pool, hidden, w2, b2, flat(out), epilogue_of(gate), rounded),
    ]


class Gate(NamedTuple):
    """A gate, one number per item and channel, followed by LANES zeros."""

    data: Array
    zeros: Array


@kernel
def gate_panels(gate: Array, w: Array, k: int, n: int, out: Array, part: int, parts: int) -> None:
    """Multiply row r of all panels of w[k, n] by gate[r]."""
    first, end = share(k, part, parts)
    vectors = (n + LANES - 1) // LANES
    at = 0
    while vectors > 0:
        columns = panel_width(vectors, n) * LANES
        for r in range(first, end):
            begin = at + r * columns
            source, target, factor = w[begin : begin + columns], out[begin : begin + columns], gate[r]
            for c in range(columns):
                target[c] = source[c] * factor
        at += k * columns
        vectors -= columns // LANES


@jit
def gate_rows(x: Array, start: int, count: int, gate: Array, out: Array, zeros: Array) -> None:
    """Compute out[r] = x[r] · gate for `count` rows of x[start:], each as long as `gate`; `zeros` holds LANES zeros."""
    k = gate.shape[0]
    # a product with one number per channel is a depthwise convolution with a single tap
    for channel in range(0, k, LANES) if k >= LANES else range(0):
        c = min(channel, k - LANES)
        convolve_looped(
            Rows(x, start + c, k), Window(1, 0, 1, k, LANES, 1, 0), Weights(gate, c, zeros, 0),
            Pixels(out, out, c, k, count, LANES, out, -1), Epilogue(0, LINEAR, _ZERO, _ZERO),
        )  # fmt: skip
    for r in range(count if k < LANES else 0):
        for c in range(k):
            out[r * k + c] = x[start + r * k + c] * gate[c]


@kernel
def multiply_gated(
    run: Static, x: Array, gate: Gate, layer: Layer, residual: Array, out: Array, size: Product, scratch: Array,
    part: int, parts: int,
) -> None:  # fmt: skip
    """Multiply x · gate[item] for each item of the batch like `gemm.multiply`.

    Scratch holds a block of gated rows for each share. With `run` = PAIRS the gated rows are rounded to bfloat16, like
    the weights.
    """
    m, k, n = size
    depth = (k + 1) // 2 if run == PAIRS else k
    pixels = m // (gate.data.shape[0] // k)
    first, end, column, column_end = share_product(m, n, part, parts)
    room = BLOCK * k * part
    w = Panels(layer.data, column * depth, 0, depth, layer.bias, column)
    while first < end:
        item = first // pixels
        count = min(min(BLOCK, end - first), (item + 1) * pixels - first)
        gated = scratch[room : room + count * k]
        gate_rows(x, first * k, count, gate.data[item * k : (item + 1) * k], gated, gate.zeros)
        if run == PAIRS:
            round_rows(gated, 0, count, k, gated, 0)
        multiply_typed(
            run, Rows(scratch, room, depth), count, w, column_end - column,
            Lines(out, residual, first * n + column, n, LANES), layer.epilogue,
        )  # fmt: skip
        if layer.epilogue.activation >= POSTPONED:
            for i in range(first, first + count):
                activate(out[i * n + column : i * n + column_end], layer.epilogue)
        first += count


def _refused(
    out: Info, x: Info | None, gate: Info | None, w: Info | None, b: Info | None = None,
    residual: Info | None = None, *, activation: Activation = Activation(),
) -> str | None:  # fmt: skip
    if gate is None or gate.value is not None:
        return "the gate is constant"
    refused = pointwise_refused(out, x, w, b, residual, geometry=ConvAttributes(), activation=activation)
    return refused or float32_refused(gate)


@fast(gated_conv, when=_refused, by_item=True, rounds=True)
def bind_gated_conv(
    pool: ConstantPool, out: Array, x: Array, gate: Array, w: Array, b: Array | None = None,
    residual: Array | None = None, *, activation: Activation = Activation(), rounded: bool = False,
) -> list[Call]:  # fmt: skip
    """Bind a product with gated pixels, or with gated weights if an image has more pixels than there are filters.

    Weights rounded to bfloat16 are shared by all runs; then the pixels are gated.
    """
    source, target, gates = image(x), image(out), flat(gate)
    pack = pack_rounded if rounded else pack_panels
    layer = pointwise_layer(pool, w, b, epilogue_of(activation, residual is not None), pack)
    other = memory_or(residual, target.data)
    batch, channels, filters = source.batch, source.channels, target.channels
    pixels = source.height * source.width
    if pixels <= filters or rounded:
        size = Product(batch * pixels, channels, filters)
        kind = Specialised(PAIRS if rounded else LOOPED)
        args = (kind, source.data, Gate(gates, _NO_BIAS), layer, other, target.data, size)
        return [Call(multiply_gated, args, scratch=BLOCK * channels)]
    weights = temporary(layer.data.size)
    gated, size = layer._replace(data=weights), Product(pixels, channels, filters)
    calls = []
    for item in range(batch):
        x_i, other_i, out_i, gate_i = (a.reshape(batch, -1)[item] for a in (source.data, other, target.data, gates))
        calls.append(Call(gate_panels, (gate_i, layer.data, channels, filters, weights)))
        calls.append(Call(multiply, (x_i, gated, other_i, out_i, size)))
    return calls
