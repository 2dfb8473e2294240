"""Binders of LSTM, GRU and RNN: packing of weights, the input products, and the kernel of `recurrent`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from tinyonnx.codegen.arguments import Specialised
from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.kernels._common import Layer, Product, epilogue_of, flat, float32_refused, temporary, zeros
from tinyonnx.kernels.gemm import multiply, pack_bias, pack_panels
from tinyonnx.kernels.recurrent import (
    GRU,
    LSTM,
    PANEL,
    RNN,
    ROWS,
    Extent,
    Functions,
    Inputs,
    Outputs,
    Recurrence,
    States,
    in_panels,
    in_vectors,
    recur,
    row_of_gates,
)
from tinyonnx.ops import recurrent as ops
from tinyonnx.ops.fused import Activation
from tinyonnx.ops.recurrent import LayerAttributes, Sizes
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.sizes.integers import minimum

# -- packing ----------------------------------------------------------------------------


def padded_gates(gates: Array, count: int) -> Array:
    """Pad gates [count · hidden, …] with zeros to [count · padded, …]."""
    hidden = len(gates) // count
    result = np.zeros((count, in_vectors(hidden), *gates.shape[1:]), gates.dtype)
    result[:, :hidden] = gates.reshape(count, hidden, *gates.shape[1:])
    return result.reshape(-1, *gates.shape[1:])


def _parts(cell: int) -> list[slice]:
    """Return the numbers of gates that each recurrent product of a step computes."""
    return [slice(0, 2), slice(2, 3)] if cell == GRU else [slice(None)]


def _split(gates: Array, cell: int, count: int) -> list[Array]:
    """Pad gates [count · hidden, …] and split them by product."""
    padded = padded_gates(gates, count)
    each = padded.reshape(count, -1, *gates.shape[1:])
    return [each[part].reshape(-1, *gates.shape[1:]) for part in _parts(cell)]


def _pack_recurrent(cell: int, count: int, r: Array) -> Array:
    """Pack R [directions, count · hidden, hidden] into panels [hidden, PANEL], one direction after the other."""
    panels = []
    for matrix in (part for direction in r for part in _split(direction, cell, count)):
        wide = np.zeros((in_panels(len(matrix)), matrix.shape[1]), np.float32)
        wide[: len(matrix)] = matrix
        panels.append(wide.reshape(-1, PANEL, matrix.shape[1]).swapaxes(1, 2).ravel())
    return _packed(panels)


def _packed(arrays: list[Array]) -> Array:
    result = zeros(sum(array.size for array in arrays))
    return np.concatenate(arrays, out=result)


def _pack_recurrent_bias(cell: int, count: int, late: bool, b: Array) -> Array:
    """Pack the biases added to recurrent products: with `late` those of the GRU's content, else zeros."""
    biases = []
    for direction in b:
        own = np.zeros_like(direction[len(direction) // 2 :])
        if late:
            own[len(own) // 3 * 2 :] = direction[len(direction) // 2 :][len(own) // 3 * 2 :]
        for part in _split(own, cell, count):
            biases.append(np.pad(part, (0, in_panels(len(part)) - len(part))))
    return _packed(biases)


def _pack_input(count: int, w: Array) -> Array:
    """Pack W [directions, count · hidden, features] for the product that computes the gates of all directions."""
    return pack_panels(np.concatenate([padded_gates(direction, count) for direction in w]).T)


def pack_input_bias(count: int, late: bool, b: Array) -> Array:
    """Pack the biases added to input products: Wb + Rb, with `late` without Rb of the GRU's content."""
    biases = []
    for direction in b:
        wb, rb = np.split(direction.copy(), 2)
        if late:
            rb[len(rb) // 3 * 2 :] = 0
        biases.append(padded_gates(wb + rb, count))
    return pack_bias(np.concatenate(biases))


def pack_peepholes(p: Array) -> Array:
    """Return peepholes [directions, 3 · hidden] with padded gates, as a 1-D array."""
    return _packed([padded_gates(direction, 3) for direction in p])


# -- operators --------------------------------------------------------------------------

_GATES = {LSTM: 4, GRU: 3, RNN: 1}
_DEFAULTS = {LSTM: ("Sigmoid", "Tanh", "Tanh"), GRU: ("Sigmoid", "Tanh"), RNN: ("Tanh",)}
_ACTIVATIONS = {
    "relu": "Relu",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "hardsigmoid": "HardSigmoid",
    "leakyrelu": "LeakyRelu",
}
_NOTHING = np.zeros(0, np.float32)
_NO_LENGTHS = np.zeros(0, np.int32)


def functions_of(cell: int, layer: LayerAttributes) -> list[Activation] | None:
    """Return the activations of all directions; None if they differ or one isn't supported."""
    directions = 2 if layer.direction == "bidirectional" else 1
    each = len(_DEFAULTS[cell])
    names = layer.activations or _DEFAULTS[cell] * directions
    if cell == RNN and directions == 1:
        names = names[:1]
    if len(names) != each * directions:
        return None
    found = []
    for name, parameters in ops.resolved(names, layer):
        if name not in _ACTIVATIONS:
            return None
        found.append((_ACTIVATIONS[name], parameters.get("alpha", 0.0), parameters.get("beta", 0.0)))
    if found[:each] != found[-each:]:
        return None
    return [Activation(name=name, alpha=alpha, beta=beta) for name, alpha, beta in found[:each]]


def _refused(
    cell: int, x: Info | None, weights: list[Info | None], lengths: Info | None, states: list[Info | None],
    layer: LayerAttributes, checked: bool,
) -> str | None:  # fmt: skip
    if x is None or x.value is not None:
        return "the input is constant"
    w, r, *others = weights
    if w is None or r is None or any(i is not None and i.value is None for i in weights):
        return "weights are not constant"
    if lengths is not None and lengths.value is None and not checked:
        return "the lengths of sequences are neither constant nor checked"
    try:
        sizes = ops.sizes_of(x, w, r, _GATES[cell], layer)
        functions = functions_of(cell, layer)
    except OpError as error:
        return str(error)
    if functions is None:
        return "activations that the kernel doesn't support"
    if layer.clip is not None and not layer.clip >= 0:
        return f"clip is {layer.clip}"
    state = (sizes.directions, sizes.batch, sizes.hidden)
    state = state if layer.layout == 0 else (state[1], state[0], state[2])
    widths = (2 * _GATES[cell] * sizes.hidden, 3 * sizes.hidden)
    expected = [(sizes.directions, width) for width in widths]
    for info, shape in [*zip(others, expected), *((s, state) for s in states)]:
        if info is not None and info.shape != shape:
            return "an input has another shape than the layer needs"
    if lengths is not None:
        steps = lengths.value
        if lengths.dtype != np.int32 or lengths.shape != (sizes.batch,):
            return "sequence_lens have another type or shape than the layer needs"
        if steps is not None and (steps.min() < 0 or steps.max() > sizes.time):
            return "lengths of sequences are out of range"
    return float32_refused(x, *weights, *states)


def _bind(
    cell: int, pool: ConstantPool, outs: list[Array | None], x: Array,
    weights: tuple[Array, Array, Array | None, Array | None], lengths: Array | None, states: list[Array | None],
    layer: LayerAttributes, option: int,
) -> list[Call]:  # fmt: skip
    w, r, b, p = weights
    count = _GATES[cell]
    sizes: Sizes = ops.sizes_of(x, w, r, count, layer)
    time, batch, features, hidden, directions = sizes
    n = in_vectors(hidden)
    columns = directions * count * n
    late = cell == GRU and bool(option)
    if b is None:
        b = np.zeros((directions, 2 * count * hidden), np.float32)
    tag = ("recurrent", cell, late)
    products = temporary(time * batch * columns)
    linear = Layer(
        pool.derive((*tag, "W"), lambda w: _pack_input(count, w), w),
        pool.derive((*tag, "Wb"), lambda b: pack_input_bias(count, late, b), b),
        epilogue_of(Activation()),
    )
    recurrence = Recurrence(
        pool.derive((*tag, "R"), lambda r: _pack_recurrent(cell, count, r), r),
        pool.derive((*tag, "Rb"), lambda b: _pack_recurrent_bias(cell, count, late, b), b),
        _NOTHING if p is None else pool.derive((*tag, "P"), pack_peepholes, p),
    )
    activations = functions_of(cell, layer)
    assert activations is not None
    gate, content, output = (*map(epilogue_of, activations), *[epilogue_of(Activation())] * 2)[:3]
    clip = Activation() if layer.clip is None else Activation(name="Clip", alpha=-layer.clip, beta=layer.clip)
    by_time = layer.layout == 0
    y, last_h, last_c = (*outs, None, None)[:3]

    def memory(array: Array | None) -> Array:
        return _NOTHING if array is None else flat(array)

    state_steps = (batch * hidden, hidden) if by_time else (hidden, directions * hidden)
    h, c = (*states, None)[:2]
    if by_time:
        input_steps, y_steps = (batch * columns, columns), (directions * batch * hidden, batch * hidden, hidden)
    else:
        input_steps, y_steps = (columns, time * columns), (directions * hidden, hidden, time * directions * hidden)
    rows = minimum(batch, ROWS)
    return [
        Call(multiply, (flat(x), linear, products, products, Product(time * batch, features, columns))),
        Call(
            recur,
            (
                Specialised(cell),
                Inputs(products, *input_steps, _NO_LENGTHS if lengths is None else flat(lengths)),
                recurrence,
                Functions(epilogue_of(clip), gate, content, output),
                States(memory(h), memory(c), *state_steps),
                Outputs(memory(y), *y_steps, States(memory(last_h), memory(last_c), *state_steps)),
                Extent(time, batch, hidden, directions, int(layer.direction == "reverse"), option),
            ),
            scratch=rows * (2 * n + row_of_gates(cell, n)),
        ),
    ]


_RNN_DEFAULT = LayerAttributes(activations=("Tanh", "Tanh"))


def _optional(inputs: tuple[Any, ...]) -> list[Any]:
    """Return the inputs after W and R, None for absent ones: B, sequence_lens, initial_h, initial_c, P."""
    return [*inputs, *[None] * (5 - len(inputs))]


def _when_checked(refused: Callable[..., str | None]) -> Callable[..., str | None]:
    """Return the condition of a layer whose sequence lengths are checked during the run."""

    @wraps(refused)
    def when(*infos: Info | None, **attributes: Any) -> str | None:
        return refused(*infos, checked=True, **attributes)

    return when


def _lstm_refused(
    out: Info | None, x: Info | None, w: Info | None, r: Info | None, *optional: Info | None,
    layer: LayerAttributes = LayerAttributes(), input_forget: int = 0, checked: bool = False,
) -> str | None:  # fmt: skip
    b, lengths, h, c, p = _optional(optional)
    return _refused(LSTM, x, [w, r, b, p], lengths, [h, c], layer, checked)


@fast(ops.checked_lstm, when=_when_checked(_lstm_refused), layout="row_major", outputs=True)
@fast(ops.lstm, when=_lstm_refused, layout="row_major", outputs=True)
def bind_lstm(
    pool: ConstantPool, outs: list[Array | None], x: Array, w: Array, r: Array, *optional: Array | None,
    layer: LayerAttributes = LayerAttributes(), input_forget: int = 0,
) -> list[Call]:  # fmt: skip
    """Bind an LSTM."""
    b, lengths, h, c, p = _optional(optional)
    return _bind(LSTM, pool, outs, x, (w, r, b, p), lengths, [h, c], layer, int(bool(input_forget)))


def _gru_refused(
    out: Info | None, x: Info | None, w: Info | None, r: Info | None, *optional: Info | None,
    layer: LayerAttributes = LayerAttributes(), linear_before_reset: int = 0, checked: bool = False,
) -> str | None:  # fmt: skip
    b, lengths, h, *_ = _optional(optional)
    return _refused(GRU, x, [w, r, b], lengths, [h], layer, checked)


@fast(ops.gru_1, when=_gru_refused, layout="row_major", outputs=True)
@fast(ops.checked_gru, when=_when_checked(_gru_refused), layout="row_major", outputs=True)
@fast(ops.gru, when=_gru_refused, layout="row_major", outputs=True)
def bind_gru(
    pool: ConstantPool, outs: list[Array | None], x: Array, w: Array, r: Array, *optional: Array | None,
    layer: LayerAttributes = LayerAttributes(), linear_before_reset: int = 0,
) -> list[Call]:  # fmt: skip
    """Bind a GRU."""
    b, lengths, h, *_ = _optional(optional)
    option = int(bool(linear_before_reset))
    return _bind(GRU, pool, outs, x, (w, r, b, None), lengths, [h], layer, option)


def _rnn_refused(
    out: Info | None, x: Info | None, w: Info | None, r: Info | None, *optional: Info | None,
    layer: LayerAttributes = _RNN_DEFAULT, checked: bool = False,
) -> str | None:  # fmt: skip
    b, lengths, h, *_ = _optional(optional)
    return _refused(RNN, x, [w, r, b], lengths, [h], layer, checked)


@fast(ops.checked_rnn, when=_when_checked(_rnn_refused), layout="row_major", outputs=True)
@fast(ops.rnn, when=_rnn_refused, layout="row_major", outputs=True)
def bind_rnn(
    pool: ConstantPool, outs: list[Array | None], x: Array, w: Array, r: Array, *optional: Array | None,
    layer: LayerAttributes = _RNN_DEFAULT,
) -> list[Call]:  # fmt: skip
    """Bind a plain recurrent layer."""
    b, lengths, h, *_ = _optional(optional)
    return _bind(RNN, pool, outs, x, (w, r, b, None), lengths, [h], layer, 0)
