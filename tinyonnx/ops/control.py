"""Control flow: operators that run subgraphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyonnx.dtypes import from_onnx_type
from tinyonnx.errors import OpError
from tinyonnx.ir import Array, Graph, Value
from tinyonnx.ops.shape import integer, integers, normalise_axes
from tinyonnx.registry import Context, op


def _truth(value: Any, what: str) -> bool:
    array = np.asarray(value)
    if array.size != 1 or array.dtype != np.bool_:
        raise OpError(f"{what} must be one boolean, is {array.dtype}{list(array.shape)}")
    return bool(array.reshape(()))


@op("If", since=1)
def if_(ctx: Context, cond: Array, *, then_branch: Graph, else_branch: Graph) -> tuple[Any, ...]:
    return tuple(ctx.run_graph(then_branch if _truth(cond, "the condition") else else_branch, []))


class _Stack:
    """A scan output: the results of all iterations, stacked along a new axis."""

    def __init__(self, ctx: Context, declared: Value, axis: int = 0, backwards: bool = False) -> None:
        self.ctx, self.declared, self.axis, self.backwards = ctx, declared, axis, backwards
        self.items: list[Array] = []

    def append(self, item: Any) -> None:
        if not isinstance(item, (np.ndarray, np.generic)):
            raise OpError(f'"{self.declared.name}" is not a tensor: only tensors can be stacked')
        item = np.asarray(item)
        first = self.items[0] if self.items else item
        if (item.shape, item.dtype) != (first.shape, first.dtype):
            found = f"{first.dtype}{list(first.shape)} and {item.dtype}{list(item.shape)}"
            raise OpError(f'iterations give different "{self.declared.name}": {found}')
        self.items.append(item)
        self.ctx.keep(item)
        self.ctx.check_size((len(self.items), *item.shape), item.dtype)

    def result(self) -> Array:
        """Return the stacked items.

        Without items, an empty tensor of the declared type, whose unknown dimensions are 0.
        """
        if self.items:
            (axis,) = normalise_axes([self.axis], self.items[0].ndim + 1)
            return np.stack(self.items[::-1] if self.backwards else self.items, axis)
        if self.declared.shape is None:
            return np.empty(0, _dtype(self.declared))
        shape = [d if isinstance(d, int) else 0 for d in self.declared.shape]
        (axis,) = normalise_axes([self.axis], len(shape) + 1)
        return np.empty([*shape[:axis], 0, *shape[axis:]], _dtype(self.declared))


def _dtype(declared: Value) -> np.dtype[Any]:
    if declared.dtype is not None:
        return declared.dtype
    try:
        return from_onnx_type(declared.type or "")
    except KeyError:
        raise OpError(f'there is no iteration, and the type of "{declared.name}" is not declared') from None


@op("Loop", since=1)
def loop(
    ctx: Context, m: Array | None = None, cond: Array | None = None, *initial: Any, body: Graph
) -> tuple[Any, ...]:
    limit = None if m is None else integer(m, "M")
    going = cond is None or _truth(cond, "the condition")
    carried: list[Any] = list(initial)
    if len(body.outputs) < 1 + len(carried):
        raise OpError(f"its body gives {len(body.outputs)} outputs for a condition and {len(carried)} values")
    scanned = [_Stack(ctx, value) for value in body.declared_outputs[1 + len(carried) :]]
    iteration = 0
    while going and (limit is None or iteration < limit):
        ctx.tick()
        results = ctx.run_graph(body, [np.array(iteration, np.int64), np.array(going), *carried])
        going = _truth(results[0], "the condition that the body gives")
        carried = results[1 : 1 + len(carried)]
        for stack, item in zip(scanned, results[1 + len(carried) :], strict=True):
            stack.append(item)
        iteration += 1
    return (*carried, *(stack.result() for stack in scanned))


def _scan(
    ctx: Context, states: list[Any], sequences: list[Array], body: Graph, input_directions: Sequence[int],
    stacks: Sequence[_Stack],
) -> list[Any]:  # fmt: skip
    """Run the body along the first axis of all sequences."""
    lengths = {len(sequence) for sequence in sequences}
    if len(lengths) != 1:
        raise OpError(f"scan inputs of different lengths: {sorted(lengths)}")
    (length,) = lengths
    for step in range(length):
        ctx.tick()
        slices = [
            np.asarray(sequence[length - 1 - step if backwards else step], sequence.dtype)
            for sequence, backwards in zip(sequences, input_directions, strict=True)
        ]
        results = ctx.run_graph(body, [*states, *slices])
        states = results[: len(states)]
        for stack, item in zip(stacks, results[len(states) :], strict=True):
            stack.append(item)
    return [*states, *(stack.result() for stack in stacks)]


def _count_states(inputs: Sequence[Any], num_scan_inputs: int, body: Graph) -> int:
    """Return the number of states among the inputs, all of which must be tensors. Raises OpError."""
    if any(not isinstance(x, np.ndarray) for x in inputs):
        raise OpError("an initial state or scan input is missing or isn't a tensor")
    count = len(inputs) - num_scan_inputs
    if num_scan_inputs < 1 or count < 0:
        raise OpError(f"num_scan_inputs is {num_scan_inputs}, there are {len(inputs)} inputs")
    if len(body.outputs) < count:
        raise OpError(f"its body gives {len(body.outputs)} outputs for {count} states")
    return count


def _per_scan(values: Sequence[int] | None, count: int, what: str) -> list[int]:
    result = [0] * count if values is None else list(values)
    if len(result) != count:
        raise OpError(f"{what} has {len(result)} entries, expected {count}")
    return result


@op("Scan", since=9)
def scan(
    ctx: Context, *initial_state_and_scan_inputs: Any, body: Graph, num_scan_inputs: int,
    scan_input_axes: Sequence[int] | None = None, scan_input_directions: Sequence[int] | None = None,
    scan_output_axes: Sequence[int] | None = None, scan_output_directions: Sequence[int] | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    inputs = list(initial_state_and_scan_inputs)
    n_states = _count_states(inputs, num_scan_inputs, body)
    declared = body.declared_outputs[n_states:]
    sequences = []
    for x, position in zip(inputs[n_states:], _per_scan(scan_input_axes, num_scan_inputs, "scan_input_axes")):
        (axis,) = normalise_axes([position], x.ndim)
        sequences.append(np.moveaxis(x, axis, 0))
    stacks = [
        _Stack(ctx, value, axis, bool(backwards))
        for value, axis, backwards in zip(
            declared,
            _per_scan(scan_output_axes, len(declared), "scan_output_axes"),
            _per_scan(scan_output_directions, len(declared), "scan_output_directions"),
            strict=True,
        )
    ]
    directions = _per_scan(scan_input_directions, num_scan_inputs, "scan_input_directions")
    return tuple(_scan(ctx, inputs[:n_states], sequences, body, directions, stacks))


@op("Scan", since=8)
def scan_8(
    ctx: Context, sequence_lens: Array | None = None, *initial_state_and_scan_inputs: Any, body: Graph,
    num_scan_inputs: int, directions: Sequence[int] | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """Scan axis 1 of batches on axis 0, as before opset 9; outputs beyond the length of a sequence are zeros."""
    inputs = list(initial_state_and_scan_inputs)
    n_states = _count_states(inputs, num_scan_inputs, body)
    backwards = _per_scan(directions, num_scan_inputs, "directions")
    flat = [x for x in inputs[n_states:] if x.ndim < 2]
    if flat:
        raise OpError(f"a scan input needs batch and sequence axes, has shape {list(flat[0].shape)}")
    batch, length = inputs[n_states].shape[:2]
    short = [x for x in inputs if len(x) != batch] + [x for x in inputs[n_states:] if x.shape[1] != length]
    if short or batch < 1:
        raise OpError(f"inputs don't agree on a batch of {batch} and sequences of {length}")
    lengths = [length] * batch if sequence_lens is None else integers(sequence_lens, "sequence_lens")
    if len(lengths) != batch or not all(0 <= n <= length for n in lengths):
        raise OpError(f"sequence_lens {lengths} don't fit {batch} sequences of up to {length}")
    rows = []
    for i, valid in enumerate(lengths):
        stacks = [_Stack(ctx, value) for value in body.declared_outputs[n_states:]]
        states = [np.asarray(x[i], x.dtype) for x in inputs[:n_states]]
        row = _scan(ctx, states, [x[i, :valid] for x in inputs[n_states:]], body, backwards, stacks)
        for k in range(n_states, len(row)):
            row[k] = np.pad(row[k], [(0, length - valid), *[(0, 0)] * (row[k].ndim - 1)])
        rows.append(row)
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


@op("SequenceMap", since=17)
def sequence_map(ctx: Context, input_sequence: list[Any], *additional_inputs: Any, body: Graph) -> tuple[Any, ...]:
    """Run the body once per element of the sequences; tensor inputs are the same in every run."""
    if not isinstance(input_sequence, list):
        raise OpError("the first input must be a sequence")
    count = len(input_sequence)
    inputs = [input_sequence, *additional_inputs]
    wrong = [len(x) for x in inputs if isinstance(x, list) and len(x) != count]
    if wrong:
        raise OpError(f"sequences of {count} and {wrong[0]} elements")
    results = []
    for i in range(count):
        ctx.tick()
        results.append(ctx.run_graph(body, [x[i] if isinstance(x, list) else x for x in inputs]))
        ctx.keep(results[-1])
    return tuple([row[k] for row in results] for k in range(len(body.outputs)))
