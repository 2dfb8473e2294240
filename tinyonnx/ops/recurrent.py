"""RNN, GRU and LSTM: one scan over time with a different step each.

Internally a sequence is [time, batch, features], and everything is computed in float32 at
least; results of half precision are rounded at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any, NamedTuple

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.activation import elu, hard_sigmoid, leaky_relu, relu, sigmoid, softplus, softsign, tanh
from tinyonnx.ops.math import quiet, widened
from tinyonnx.registry import FUSED, Attributes, Context, Info, op

Function = Callable[[Array], Array]
State = tuple[Array, ...]
Step = Callable[[Array, State], State]
"""Maps a step's input, multiplied by W and with its bias added, and the state to the next state, output first."""

Floats = Sequence[float] | None

# -- activations ------------------------------------------------------------------------

_ACTIVATIONS: dict[str, tuple[Callable[..., Array], dict[str, float]]] = {
    "relu": (relu, {}),
    "tanh": (tanh, {}),
    "sigmoid": (sigmoid, {}),
    "affine": (lambda x, *, alpha, beta: alpha * x + beta, {"alpha": 1.0, "beta": 0.0}),
    "leakyrelu": (leaky_relu, {"alpha": 0.01}),
    "thresholdedrelu": (lambda x, *, alpha: np.where(x >= alpha, x, x.dtype.type(0)), {"alpha": 1.0}),
    "scaledtanh": (lambda x, *, alpha, beta: alpha * np.tanh(beta * x), {"alpha": 1.0, "beta": 1.0}),
    "hardsigmoid": (hard_sigmoid, {"alpha": 0.2, "beta": 0.5}),
    "elu": (elu, {"alpha": 1.0}),
    "softsign": (softsign, {}),
    "softplus": (softplus, {}),
}
"""Function and default parameters by lower-case name."""


class RecurrentAttributes(Attributes):
    """Activations, direction and size of a layer."""

    activations: Sequence[str] | None = None
    activation_alpha: Floats = None
    activation_beta: Floats = None
    clip: float | None = None
    direction: str = "forward"
    hidden_size: int | None = None


class LayerAttributes(RecurrentAttributes):
    """Attributes that RNN, GRU and LSTM share; `output_sequence` of opset 1 has no effect."""

    layout: int = 0
    output_sequence: int = 0


def resolved(names: Sequence[str], layer: LayerAttributes) -> list[tuple[str, dict[str, float]]]:
    """Return the activations by their names in lower case, with their parameters.

    Each takes the next alpha and beta if it has such parameters. Raises OpError for an unknown name.
    """
    given = {"alpha": iter(layer.activation_alpha or ()), "beta": iter(layer.activation_beta or ())}
    unknown = next((name for name in names if name.lower() not in _ACTIVATIONS), None)
    if unknown is not None:
        raise OpError(f"unknown activation {unknown!r}")
    return [
        (name.lower(), {key: next(given[key], default) for key, default in _ACTIVATIONS[name.lower()][1].items()})
        for name in names
    ]


def _functions(names: Sequence[str], layer: LayerAttributes) -> list[Function]:
    return [partial(_ACTIVATIONS[name][0], **parameters) for name, parameters in resolved(names, layer)]


def _clipping(function: Function, clip: float | None) -> Function:
    """Return the activation of a gate with its input clipped; as in other runtimes, LSTM's third one isn't clipped."""
    if clip is None:
        return function
    if not clip >= 0:
        raise OpError(f"clip is {clip}, must not be negative")
    return lambda x: function(np.clip(x, -clip, clip))


# -- the scan ---------------------------------------------------------------------------


class _Weights(NamedTuple):
    """The weights of one direction; the operands of W and R have the type to compute in."""

    w: Any  # [features, gates * hidden], an array or another operand of `@`
    r: Any  # [hidden, gates * hidden]
    wb: Array  # [gates * hidden]
    rb: Array  # [gates * hidden]
    p: Array | None  # [3 * hidden]


Factors = Sequence[tuple[Any, Any]]

Cell = Callable[[_Weights, list[Function]], tuple[Array, Step]]
"""Maps weights and activations to the bias of the projected input and the step."""


def _reversal(time: int, lengths: Array) -> Array:
    """Return the index of the step to read at [time, batch] when each sequence is reversed within its own length."""
    t = np.arange(time)[:, None]
    return np.where(t < lengths, lengths - 1 - t, t)


def _scan(x: Array, lengths: Array, state: State, bias: Array, w: Any, step: Step) -> tuple[Array, State]:
    """Return outputs [time, batch, hidden], zero after the end of a sequence, and the last state of each sequence."""
    time, batch, features = x.shape
    projected = (x.reshape(time * batch, features) @ w + bias).reshape(time, batch, len(bias))
    outputs = np.zeros((time, batch, state[0].shape[-1]), x.dtype)
    shortest = lengths.min(initial=time)
    for t in range(lengths.max(initial=0)):
        new = step(projected[t], state)
        if t >= shortest:
            alive = (t < lengths)[:, None]
            new = tuple(np.where(alive, n, old) for n, old in zip(new, state))
            outputs[t] = np.where(alive, new[0], 0)
        else:
            outputs[t] = new[0]
        state = new
    return outputs, state


class Sizes(NamedTuple):
    """Sizes of a layer."""

    time: int
    batch: int
    features: int
    hidden: int
    directions: int


_DIRECTIONS = {"forward": [False], "foward": [False], "reverse": [True], "bidirectional": [False, True]}
"""Whether time is reversed, per direction; the misspelt name is GRU-1's default."""


def sizes_of(x: Any, w: Any, r: Any, gates: int, layer: LayerAttributes) -> Sizes:
    """Return sizes of a layer. Raises OpError if attributes, X, W and R (arrays or `Info`s) don't fit together."""
    direction, layout, hidden_size = layer.direction, layer.layout, layer.hidden_size
    if direction not in _DIRECTIONS:
        raise OpError(f"direction is {direction!r}, must be forward, reverse or bidirectional")
    if layout not in (0, 1):
        raise OpError(f"layout is {layout}, must be 0 or 1")
    for name, value in (("X", x), ("W", w), ("R", r)):
        if value.ndim != 3:
            raise OpError(f"{name} has {value.ndim} dimensions, needs 3")
    time, batch, features = x.shape if layout == 0 else (x.shape[1], x.shape[0], x.shape[2])
    directions, hidden = len(_DIRECTIONS[direction]), int(r.shape[2])
    if hidden_size is not None and hidden_size != hidden:
        raise OpError(f"hidden_size is {hidden_size}, R has {hidden}")
    _check_shape("W", w, (directions, gates * hidden, features))
    _check_shape("R", r, (directions, gates * hidden, hidden))
    return Sizes(time, batch, features, hidden, directions)


def _check_shape(name: str, value: Any, shape: tuple[int, ...]) -> None:
    if tuple(value.shape) != shape:
        raise OpError(f"{name} has shape {list(value.shape)}, should be {list(shape)}")


def _lengths(sequence_lens: Array | None, sizes: Sizes) -> Array:
    if sequence_lens is None:
        return np.full(sizes.batch, sizes.time)
    if sequence_lens.dtype.kind not in "iu":
        raise OpError(f"sequence_lens is {sequence_lens.dtype}, must be int32")
    _check_shape("sequence_lens", sequence_lens, (sizes.batch,))
    if sequence_lens.min(initial=0) < 0 or sequence_lens.max(initial=0) > sizes.time:
        raise OpError(f"sequence_lens {sequence_lens.tolist()} must be between 0 and {sizes.time}, the steps of X")
    return sequence_lens.astype(np.int64)


def _optional(name: str, value: Array | None, shape: tuple[int, ...], like: Array) -> Array:
    """Return the input in the type to compute in; zeros if it is absent."""
    if value is None:
        return np.zeros(shape, widened(like).dtype)
    if value.dtype != like.dtype:
        raise OpError(f"X is {like.dtype}, {name} is {value.dtype}")
    _check_shape(name, value, shape)
    return widened(value)


@quiet
def run_layer(
    ctx: Context, cell: Cell, defaults: tuple[str, ...], gates: int, layer: LayerAttributes,
    weights: tuple[Array, Array, Array | None, Array | None], x: Array, sequence_lens: Array | None, *,
    factors: Factors | None = None, **initial: Array | None,
) -> tuple[Array, ...]:  # fmt: skip
    """Return Y and each part of the last state; `weights` are W, R, B and P. Raises OpError, ResourceError.

    `factors` are the matrices to multiply with, per direction, unless they are W and R transposed.
    """
    direction, layout = layer.direction, layer.layout
    w, r, b, p = weights
    sizes = sizes_of(x, w, r, gates, layer)
    if factors is None:
        for name, value in (("W", w), ("R", r)):
            if value.dtype != x.dtype:
                raise OpError(f"X is {x.dtype}, {name} is {value.dtype}")
        factors = [(widened(w[d]).T, widened(r[d]).T) for d in range(sizes.directions)]
    time, batch, _, hidden, directions = sizes
    ctx.check_size((directions, time, batch, gates * hidden), widened(x).dtype)
    names = layer.activations or defaults * directions
    if len(names) != len(defaults) * directions:
        raise OpError(f"{len(names)} activations, {direction} needs {len(defaults) * directions}")
    functions = _functions(names, layer)
    biases = _optional("B", b, (directions, 2 * gates * hidden), x)
    peepholes = _optional("P", p, (directions, 3 * hidden), x)
    state_shape = (directions, batch, hidden) if layout == 0 else (batch, directions, hidden)
    states = [_optional(name, value, state_shape, x) for name, value in initial.items()]
    lengths = _lengths(sequence_lens, sizes)

    sequence = widened(x) if layout == 0 else widened(x).swapaxes(0, 1)
    backwards = _reversal(time, lengths), np.arange(batch)
    y = np.empty((time, directions, batch, hidden), x.dtype)
    last = [np.empty((directions, batch, hidden), x.dtype) for _ in states]
    for d, is_reverse in enumerate(_DIRECTIONS[direction]):
        wb, rb = np.split(biases[d], 2)
        one = _Weights(*factors[d], wb, rb, None if p is None else peepholes[d])
        own = functions[d * len(defaults) : (d + 1) * len(defaults)]
        bias, step = cell(one, [_clipping(f, layer.clip) for f in own[:2]] + own[2:])
        state = tuple(s[d] if layout == 0 else s[:, d] for s in states)
        ordered = sequence[backwards] if is_reverse else sequence
        outputs, state = _scan(ordered, lengths, state, bias, one.w, step)
        y[:, d] = outputs[backwards] if is_reverse else outputs
        for target, part in zip(last, state):
            target[d] = part
    if layout:
        return y.transpose(2, 0, 1, 3), *(part.swapaxes(0, 1) for part in last)
    return y, *last


def shape_rule(gates: int, states: int) -> Callable[..., list[Info] | None]:
    """Infer the output shape of a layer, given its numbers of gates and of outputs of its last state."""

    def rule(x: Info, w: Info, r: Info, *_: Info | None, layer: LayerAttributes, **__: Any) -> list[Info] | None:
        if x.shape is None or w.shape is None or r.shape is None:
            return None
        time, batch, _features, hidden, directions = sizes_of(x, w, r, gates, layer)
        y = (batch, time, directions, hidden) if layer.layout else (time, directions, batch, hidden)
        last = (batch, directions, hidden) if layer.layout else (directions, batch, hidden)
        return [Info(x.dtype, y), *[Info(x.dtype, last)] * states]

    return rule


# -- RNN --------------------------------------------------------------------------------


def _rnn_cell(weights: _Weights, functions: list[Function]) -> tuple[Array, Step]:
    (f,) = functions

    def step(x: Array, state: State) -> State:
        return (f(x + state[0] @ weights.r),)

    return weights.wb + weights.rb, step


@op("RNN", since=1, shape=shape_rule(gates=1, states=1))
def rnn(
    ctx: Context, x: Array, w: Array, r: Array, b: Array | None = None, sequence_lens: Array | None = None,
    initial_h: Array | None = None, *, layer: LayerAttributes = LayerAttributes(activations=("Tanh", "Tanh")),
) -> tuple[Array, ...]:  # fmt: skip
    if layer.activations and layer.direction != "bidirectional":
        layer = layer.replace(activations=layer.activations[:1])  # the default has two for any direction
    return run_layer(ctx, _rnn_cell, ("Tanh",), 1, layer, (w, r, b, None), x, sequence_lens, initial_h=initial_h)


# -- GRU --------------------------------------------------------------------------------


def _gru_cell(weights: _Weights, functions: list[Function]) -> tuple[Array, Step]:
    f, g = functions
    split = 2 * weights.r.shape[1] // 3
    zr, h = np.s_[:, :split], np.s_[:, split:]

    def step(x: Array, state: State) -> State:
        (before,) = state
        z, r = np.split(f(x[zr] + before @ weights.r[zr]), 2, axis=1)
        new = g(x[h] + (r * before) @ weights.r[h])
        return ((1 - z) * new + z * before,)

    return weights.wb + weights.rb, step


def _gru_cell_linear_before_reset(weights: _Weights, functions: list[Function]) -> tuple[Array, Step]:
    f, g = functions
    split = 2 * weights.r.shape[1] // 3
    early, late = weights.rb.copy(), weights.rb[split:]
    early[split:] = 0

    def step(x: Array, state: State) -> State:
        (before,) = state
        recurrent = before @ weights.r
        z, r = np.split(f(x[:, :split] + recurrent[:, :split]), 2, axis=1)
        new = g(x[:, split:] + r * (recurrent[:, split:] + late))
        return ((1 - z) * new + z * before,)

    return weights.wb + early, step


@op("GRU", since=3, shape=shape_rule(gates=3, states=1))
def gru(
    ctx: Context, x: Array, w: Array, r: Array, b: Array | None = None, sequence_lens: Array | None = None,
    initial_h: Array | None = None, *, layer: LayerAttributes = LayerAttributes(), linear_before_reset: int = 0,
) -> tuple[Array, ...]:  # fmt: skip
    cell = _gru_cell_linear_before_reset if linear_before_reset else _gru_cell
    defaults = ("Sigmoid", "Tanh")
    return run_layer(ctx, cell, defaults, 3, layer, (w, r, b, None), x, sequence_lens, initial_h=initial_h)


@op("GRU", since=1, shape=shape_rule(gates=3, states=1))
def gru_1(
    ctx: Context, x: Array, w: Array, r: Array, b: Array | None = None, sequence_lens: Array | None = None,
    initial_h: Array | None = None, *, layer: LayerAttributes = LayerAttributes(direction="foward"),
) -> tuple[Array, ...]:  # fmt: skip
    return gru(ctx, x, w, r, b, sequence_lens, initial_h, layer=layer)


# -- LSTM -------------------------------------------------------------------------------


def _peeping(gate: Array, weight: Array | None, c: Array) -> Array:
    return gate if weight is None else np.asarray(gate + weight * c)


def lstm_cell(couple: bool) -> Cell:
    """Return the cell of an LSTM; with `couple` the forget gate is 1 - input gate."""

    def cell(weights: _Weights, functions: list[Function]) -> tuple[Array, Step]:
        f, g, h = functions
        peepholes = [None] * 3 if weights.p is None else np.split(weights.p, 3)
        p_in, p_out, p_forget = peepholes

        def step(x: Array, state: State) -> State:
            before, c = state
            i, o, forget, new = np.split(x + before @ weights.r, 4, axis=1)
            i = f(_peeping(i, p_in, c))
            forget = 1 - i if couple else f(_peeping(forget, p_forget, c))
            c = forget * c + i * g(new)
            return f(_peeping(o, p_out, c)) * h(c), c

        return weights.wb + weights.rb, step

    return cell


@op("LSTM", since=1, shape=shape_rule(gates=4, states=2))
def lstm(
    ctx: Context, x: Array, w: Array, r: Array, b: Array | None = None, sequence_lens: Array | None = None,
    initial_h: Array | None = None, initial_c: Array | None = None, p: Array | None = None, *,
    layer: LayerAttributes = LayerAttributes(), input_forget: int = 0,
) -> tuple[Array, ...]:  # fmt: skip
    return run_layer(
        ctx,
        lstm_cell(bool(input_forget)),
        ("Sigmoid", "Tanh", "Tanh"),
        4,
        layer,
        (w, r, b, p),
        x,
        sequence_lens,
        initial_h=initial_h,
        initial_c=initial_c,
    )


# -- lengths that only a run knows ------------------------------------------------------


@op("SequenceLengths", domain=FUSED, shape=lambda lengths, sizes: Info(lengths.dtype, lengths.shape))
def sequence_lengths(lengths: Array, sizes: Array) -> Array:
    """Return the lengths [batch] of a layer's sequences; `sizes` are its numbers of steps and of sequences.

    Raises OpError if they don't fit.
    """
    time, batch = (int(n) for n in sizes)
    _lengths(lengths, Sizes(time, batch, 0, 0, 0))
    return lengths.copy()


def _checked(name: str, function: Callable[..., Any], gates: int, states: int) -> Callable[..., Any]:
    """Register the same layer with lengths that SequenceLengths has checked, so that a kernel may read them."""

    @wraps(function)
    def layer(*inputs: Any, **attributes: Any) -> Any:
        return function(*inputs, **attributes)

    return op(name, domain=FUSED, shape=shape_rule(gates, states))(layer)


checked_rnn = _checked("RNN", rnn, gates=1, states=1)
checked_gru = _checked("GRU", gru, gates=3, states=1)
checked_lstm = _checked("LSTM", lstm, gates=4, states=2)
