"""Squeeze-and-excitation: the gate of each channel, and 1×1 convolutions of a gated image."""

from __future__ import annotations

import numpy as np

from tinyonnx.codegen.kernel import kernel, share
from tinyonnx.codegen.primitives import LANES, POSTPONED
from tinyonnx.ir import Array
from tinyonnx.kernels._common import Epilogue, activation_refused, epilogue_of, flat, float32_refused, image, temporary
from tinyonnx.kernels.depthwise import convolve_pixels
from tinyonnx.kernels.elementwise import activate
from tinyonnx.kernels.gemm import (
    BLOCK,
    bias_panels,
    linear,
    multiply,
    multiply_rows,
    pack_panels,
    panel_width,
    share_product,
)
from tinyonnx.kernels.pointwise import pointwise_refused
from tinyonnx.kernels.pool import global_mean
from tinyonnx.ops.conv import ConvAttributes
from tinyonnx.ops.fused import Activation
from tinyonnx.ops.gated import gated_conv, squeeze_gate
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool


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


@fast(squeeze_gate, when=_gate_refused, by_item=True)
def bind_squeeze_gate(
    pool: ConstantPool, out: Array, x: Array, w1: Array, b1: Array | None, w2: Array, b2: Array | None = None, *,
    activation: Activation = Activation(name="Relu"), gate: Activation = Activation(name="Sigmoid"),
) -> list[Call]:  # fmt: skip
    """Three phases, each of which needs all of the one before."""
    c, s = w1.shape
    batch = x.shape[0]
    pixels = x.size // (batch * c)
    mean, partial, hidden = (temporary(batch * n) for n in (c, c, s))
    return [
        Call(global_mean, (flat(x), batch, pixels, c, mean, partial)),
        linear(pool, mean, w1, b1, hidden, epilogue_of(activation)),
        linear(pool, hidden, w2, b2, flat(out), epilogue_of(gate)),
    ]


@kernel
def gate_panels(gate: Array, w: Array, k: int, n: int, out: Array, part: int, parts: int) -> None:
    """Rows of the panels of w[k, n], each times its number in the gate [k]."""
    first, end = share(k, part, parts)
    vectors = (n + LANES - 1) // LANES
    at = 0
    while vectors > 0:
        columns = panel_width(vectors) * LANES
        for r in range(first, end):
            source, target = (
                w[at + r * columns : at + (r + 1) * columns],
                out[at + r * columns : at + (r + 1) * columns],
            )
            factor = gate[r]
            for c in range(columns):
                target[c] = source[c] * factor
        at += k * columns
        vectors -= columns // LANES


@kernel
def multiply_gated(
    x: Array, gate: Array, pixels: int, w: Array, bias: Array, residual: Array, out: Array, m: int, k: int, n: int,
    epilogue: Epilogue, zeros: Array, scratch: Array, part: int, parts: int,
) -> None:  # fmt: skip
    """`gemm.multiply` of x[m, k] · gate[m / pixels, k]; scratch holds a block of gated rows."""
    first, end, column, column_end = share_product(m, n, part, parts)
    columns = column_end - column
    room = BLOCK * k * part
    while first < end:
        item = first // pixels
        count = min(min(BLOCK, end - first), (item + 1) * pixels - first)
        # a product with one number per channel is a depthwise convolution with a single tap
        for channel in range(0, k, LANES) if k >= LANES else range(0):
            c = min(channel, k - LANES)
            convolve_pixels(
                x, first * k + c, k, 1, (1, 0, 1, k, LANES, 1, 0), gate, item * k + c, zeros, 0,
                scratch, room + c, k, count, LANES, scratch, (0, 0, zeros[0], zeros[0]), scratch, -1,
            )  # fmt: skip
        for r in range(count if k < LANES else 0):
            for c in range(k):
                scratch[room + r * k + c] = x[(first + r) * k + c] * gate[item * k + c]
        multiply_rows(
            scratch, room, k, count, (1, 0, 1, 0, k, 0), w, column * k, 0, k, bias, column, columns,
            out, first * n + column, n, LANES, residual, epilogue,
        )  # fmt: skip
        if epilogue[1] >= POSTPONED:
            for i in range(first, first + count):
                activate(out[i * n + column : i * n + column_end], epilogue[1], epilogue[2], epilogue[3])
        first += count


def _refused(
    out: Info, x: Info | None, gate: Info | None, w: Info | None, b: Info | None = None,
    residual: Info | None = None, *, activation: Activation = Activation(),
) -> str | None:  # fmt: skip
    if gate is None or gate.value is not None:
        return "the gate is constant"
    refused = pointwise_refused(out, x, w, b, residual, geometry=ConvAttributes(), activation=activation)
    return refused or float32_refused(gate)


@fast(gated_conv, when=_refused, by_item=True)
def bind_gated_conv(
    pool: ConstantPool, out: Array, x: Array, gate: Array, w: Array, b: Array | None = None,
    residual: Array | None = None, *, activation: Activation = Activation(),
) -> list[Call]:  # fmt: skip
    """Where an image has more pixels than there are filters, the weights are gated instead, item by item."""
    (source, (batch, height, width, channels)), (target, (*_, filters)) = image(x), image(out)
    packed = pool.derive("pointwise", lambda w: pack_panels(w.reshape(w.shape[:2]).T), w)
    bias = bias_panels(pool, b, filters)
    other = target if residual is None else image(residual)[0]
    epilogue = epilogue_of(activation, residual is not None)
    pixels, gates = height * width, flat(gate)
    sizes = (batch * pixels, channels, filters)
    if pixels <= filters:
        args = (source, gates, pixels, packed, bias, other, target, *sizes, epilogue, np.zeros(LANES, np.float32))
        return [Call(multiply_gated, args, scratch=BLOCK * channels)]
    weights = temporary(packed.size)
    calls = []
    for item in range(batch):
        x_i, other_i, out_i, gate_i = (a.reshape(batch, -1)[item] for a in (source, other, target, gates))
        calls.append(Call(gate_panels, (gate_i, packed, channels, filters, weights)))
        calls.append(Call(multiply, (x_i, weights, bias, other_i, out_i, pixels, channels, filters, epilogue)))
    return calls
