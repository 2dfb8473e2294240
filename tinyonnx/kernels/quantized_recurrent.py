"""DynamicQuantizeLSTM: both products are of bytes, quantised by the range of their left factors.

Steps are those of `recurrent`. The input is quantised as a whole. The state is quantised in each step by the range of
all sequences, so that a share is a direction.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinyonnx.codegen.byte_tiles import (
    BIAS,
    CORRECTION,
    FLOATS,
    SCALE,
    WORD,
    ZERO,
    Columns,
    Finish,
    Panel,
    Quantum,
    RowSums,
    Target,
    bytes_of,
    extremes,
)
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import LANES, Rows, float_from_bits
from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.kernels._common import epilogue_of, flat, float32_refused, temporary
from tinyonnx.kernels.quantize import bind_dynamic, quantise, range_of, scale_of
from tinyonnx.kernels.quantized_gemm import Factor, factor_of, multiply_rows, padded, product, scaling_of, sum_rows
from tinyonnx.kernels.recurrent import (
    LSTM,
    Extent,
    Functions,
    Inputs,
    Outputs,
    States,
    in_vectors,
    load_state,
    step_lstm,
    store,
)
from tinyonnx.kernels.recurrent_layers import functions_of, pack_input_bias, pack_peepholes, padded_gates
from tinyonnx.ops.fused import Activation
from tinyonnx.ops.microsoft.recurrent import dynamic_quantize_lstm
from tinyonnx.ops.recurrent import LayerAttributes, RecurrentAttributes, sizes_of
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool

_ZERO = np.float32(0)


class ScratchParts(NamedTuple):
    """Offsets of the parts of scratch, in floats: states, gates, extremes, numbers of columns, sums, bytes."""

    h: int
    c: int
    gates: int
    found: int
    columns: int
    sums: int
    bytes: int


@jit
def parts_of(start: int, batch: int, hidden: int) -> ScratchParts:
    """Compute the offsets of the parts of a share's scratch."""
    n = in_vectors(hidden)
    c = start + batch * n
    gates = c + batch * n
    found = gates + 4 * batch * n
    columns = found + 2 * LANES
    sums = columns + 16 * n
    return ScratchParts(start, c, gates, found, columns, sums, sums + in_vectors(batch))


@jit
def floats_of_share(batch: int, hidden: int) -> int:
    """Return the number of floats in the scratch of a share."""
    n = in_vectors(hidden)
    return 6 * batch * n + 2 * LANES + 16 * n + in_vectors(batch) + batch * in_vectors(padded(hidden))


@jit
def set_columns(columns: Columns, factor: Factor, first: int, count: int) -> None:
    """Set the numbers of columns that are equal in all steps."""
    for c in range(count):
        columns.data[columns.start + ZERO * count + c] = float_from_bits(np.int32(factor.zeros[first + c]))
        columns.data[columns.start + BIAS * count + c] = -_ZERO


@jit
def scale_columns(columns: Columns, factor: Factor, first: int, k: int, scale: Any, zero: int) -> None:
    """Set the numbers of columns that depend on the scale and zero point of the left factors."""
    count = columns.step
    sums, zeros, scales = (
        factor.sums[first : first + count],
        factor.zeros[first : first + count],
        factor.scales[first : first + count],
    )
    at = columns.start + CORRECTION * count
    corrections = columns.data[at : at + count]
    at = columns.start + SCALE * count
    products = columns.data[at : at + count]
    for c in range(count):
        corrections[c] = float_from_bits(np.int32(zero * (k * np.int64(zeros[c]) - np.int64(sums[c]))))
    for c in range(count):
        products[c] = scale * scales[c]


@kernel
def recur_bytes(
    x: Inputs, factor: Factor, peepholes: Array, functions: Functions, initial: States, out: Outputs, size: Extent,
    scratch: Array, part: int, parts: int,
) -> None:  # fmt: skip
    """Run a layer whose input products are known; `factor` has the recurrent weights of all directions."""
    first, end = share(size.directions, part, parts)
    hidden, batch, n = size.hidden, size.batch, in_vectors(size.hidden)
    width, depth = 4 * n, padded(hidden)
    room = parts_of(scratch.shape[0] // parts * part, batch, hidden)
    memory = bytes_of(scratch)
    for d in range(first, end):
        backwards = d + size.reverse == 1
        columns = Columns(scratch, room.columns, width)
        sums = RowSums(scratch, room.sums, factor.weighted)
        set_columns(columns, factor, d * width, width)
        for b in range(batch):
            at = d * initial.direction_step + b * initial.batch_step
            load_state(scratch[room.h + b * n : room.h + (b + 1) * n], initial.h, at, hidden)
            load_state(scratch[room.c + b * n : room.c + (b + 1) * n], initial.c, at, hidden)
        rows = Rows(memory, 4 * room.bytes, depth)
        weights = Panel(factor.data, d * depth * width)
        finish = Finish(columns, sums, Quantum(_ZERO, _ZERO, _ZERO))
        gates_of_rows = Target(scratch, room.gates, width, 0)
        own = peepholes[d * 3 * n : (d + 1) * 3 * n]
        for s in range(size.time):
            t = size.time - 1 - s if backwards else s
            extremes(scratch, room.h, batch * n, scratch, room.found)
            scale, zero = scale_of(*range_of(scratch[room.found : room.found + 2 * LANES]))
            for b in range(batch):
                start = 4 * room.bytes + b * depth
                source = scratch[room.h + b * n : room.h + b * n + hidden]
                quantise(source, scale, zero, 0, memory[start : start + hidden])
            scale_columns(columns, factor, d * width, hidden, scale, zero)
            sum_rows(rows, batch, hidden, sums)
            multiply_rows(FLOATS, rows, batch, depth // WORD, weights, width, finish, gates_of_rows)
            for b in range(batch):
                at = t * x.time_step + b * x.batch_step + d * width
                h, c = scratch[room.h + b * n : room.h + (b + 1) * n], scratch[room.c + b * n : room.c + (b + 1) * n]
                gates = scratch[room.gates + b * width : room.gates + (b + 1) * width]
                step_lstm(gates, x.data[at : at + width], h, c, own, functions, size.option)
                store(h, out.y, t * out.time_step + d * out.direction_step + b * out.batch_step, hidden)
        for b in range(batch):
            at = d * out.last.direction_step + b * out.last.batch_step
            store(scratch[room.h + b * n : room.h + (b + 1) * n], out.last.h, at, hidden)
            store(scratch[room.c + b * n : room.c + (b + 1) * n], out.last.c, at, hidden)


# -- binding ----------------------------------------------------------------------------


def _input_columns(w: Array) -> Array:
    """Arrange W [directions, features, 4 · hidden] as one matrix [1, features, columns] with padded gates."""
    return np.concatenate(_padded_columns(w), axis=1)[None]


def _padded_columns(w: Array) -> list[Array]:
    """Return matrices [features, 4 · hidden] with gates padded by zeros."""
    return [np.ascontiguousarray(padded_gates(direction.T, 4).T) for direction in w]


def _recurrent_columns(r: Array) -> Array:
    return np.stack(_padded_columns(r))


def _each_column(name: str, given: Array | None, like: Array, pool: ConstantPool) -> Array:
    """Return scales or zero points of each padded column, given by direction or column; zeros if absent."""
    directions, _, width = like.shape
    tag = "columns", name, like.shape
    if given is None:
        size, dtype = directions * 4 * in_vectors(width // 4), like.dtype
        made: Array = pool.derive((*tag, dtype.str), lambda: np.zeros(size, dtype))
        return made

    def spread(given: Array) -> Array:
        whole = np.broadcast_to(given.reshape(directions, -1), (directions, width))
        gates = whole.reshape(directions, 4, -1)
        n = in_vectors(gates.shape[2])
        result = np.zeros((directions, 4, n), given.dtype)
        result[:, :, : gates.shape[2]] = gates
        return result.reshape(-1)

    spread_out: Array = pool.derive(tag, spread, given)
    return spread_out


def _transposed(info: Info) -> Info:
    shape = info.shape or ()
    return Info(info.dtype, (*shape[:1], *shape[:0:-1]))


def _refused(
    out: Info | None, x: Info | None, w: Info | None, r: Info | None, *optional: Info | None,
    layer: RecurrentAttributes = RecurrentAttributes(), input_forget: int = 0,
) -> str | None:  # fmt: skip
    b, lengths, initial_h, initial_c, p, w_scale, w_zero, r_scale, r_zero = (*optional, *[None] * 9)[:9]
    constants = w, r, b, p, w_scale, w_zero, r_scale, r_zero
    if x is None or x.value is not None:
        return "the input is constant"
    if lengths is not None:
        return "sequences of different lengths"
    if w is None or r is None or any(i is not None and i.value is None for i in constants):
        return "weights are not constant"
    if w_scale is None or r_scale is None:
        return "weights have no scale"
    attributes = LayerAttributes(**vars(layer))
    try:
        sizes = sizes_of(x, _transposed(w), _transposed(r), 4, attributes)
        functions = functions_of(LSTM, attributes)
    except OpError as error:
        return str(error)
    if functions is None or (attributes.clip is not None and not attributes.clip >= 0):
        return "activations or clipping that the kernel doesn't support"
    state = (sizes.directions, sizes.batch, sizes.hidden)
    widths = (8 * sizes.hidden, 3 * sizes.hidden)
    expected = [*zip((b, p), ((sizes.directions, width) for width in widths)), (initial_h, state), (initial_c, state)]
    if any(info is not None and info.shape != shape for info, shape in expected):
        return "an input has another shape than the layer needs"
    each = (sizes.directions,), (sizes.directions, 4 * sizes.hidden)
    for weights, scale, zero in ((w, w_scale, w_zero), (r, r_scale, r_zero)):
        if weights.dtype not in (np.int8, np.uint8) or (zero is not None and zero.dtype != weights.dtype):
            return "weights are not bytes"
        if any(info is not None and info.shape not in each for info in (scale, zero)):
            return "scales or zero points are not those of directions or columns"
    return float32_refused(x, b, p, initial_h, initial_c, w_scale, r_scale)


@fast(dynamic_quantize_lstm, when=_refused, layout="row_major", outputs=True)
def bind_dynamic_quantize_lstm(
    pool: ConstantPool, outs: list[Array | None], x: Array, w: Array, r: Array, *optional: Array | None,
    layer: RecurrentAttributes = RecurrentAttributes(), input_forget: int = 0,
) -> list[Call]:  # fmt: skip
    """Bind the quantisation of the input, its product with the weights, and the kernel of all steps."""
    b, _, h, c, p, w_scale, w_zero, r_scale, r_zero = (*optional, *[None] * 9)[:9]
    attributes = LayerAttributes(**vars(layer))
    directions, features, hidden = len(w), w.shape[1], r.shape[1]
    time, batch = x.shape[:2]
    n = in_vectors(hidden)
    columns = directions * 4 * n
    if b is None:
        b = np.zeros((directions, 8 * hidden), np.float32)
    bias = flat(pool.derive(("recurrent bytes", "Wb"), lambda b: pack_input_bias(4, False, b), b))[:columns]

    def factor(
        weights: Array, scale: Array | None, zero: Array | None, pack: Any, tag: str, bias: Array | None
    ) -> Factor:
        zeros = _each_column("zero", zero, weights, pool)
        scales = _each_column("scale", scale, weights, pool)
        return factor_of(pool, tag, pack, weights, zeros, scales, bias=bias)

    products = temporary(time * batch * columns)
    small, scale, point = temporary(time * batch * features, np.uint8), temporary(1), temporary(1).view(np.uint8)[:1]
    image = small.reshape(time * batch, features)
    linear = factor(w, w_scale, w_zero, _input_columns, "recurrent W", bias)
    gate, content, output = map(epilogue_of, functions_of(LSTM, attributes) or ())
    clip = Activation() if attributes.clip is None else Activation(
        name="Clip", alpha=-attributes.clip, beta=attributes.clip
    )  # fmt: skip
    nothing = np.zeros(0, np.float32)
    y, last_h, last_c = (flat(out) if out is not None else nothing for out in (*outs, None, None)[:3])
    state_steps = batch * hidden, hidden
    first_h, first_c = (nothing if state is None else flat(state) for state in (h, c))
    return [
        *bind_dynamic(pool, [small, scale, point], x),
        product(pool, FLOATS, image, products.reshape(time * batch, columns), linear, scaling_of(small, point, scale)),
        Call(
            recur_bytes,
            (
                Inputs(products, batch * columns, columns, np.zeros(0, np.int32)),
                factor(r, r_scale, r_zero, _recurrent_columns, "recurrent R", None),
                nothing if p is None else pool.derive(("recurrent bytes", "P"), pack_peepholes, p),
                Functions(epilogue_of(clip), gate, content, output),
                States(first_h, first_c, *state_steps),
                Outputs(y, directions * batch * hidden, batch * hidden, hidden, States(last_h, last_c, *state_steps)),
                Extent(
                    time, batch, hidden, directions, int(attributes.direction == "reverse"), int(bool(input_forget))
                ),
            ),
            scratch=floats_of_share(batch, hidden),
        ),
    ]
