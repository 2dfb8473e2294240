"""Control flow: operators that run subgraphs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array, Graph
from tinyonnx.registry import Context, op


def _truth(value: Any, what: str) -> bool:
    array = np.asarray(value)
    if array.size != 1:
        raise OpError(f"{what} must be one boolean, has shape {list(array.shape)}")
    return bool(array.reshape(()))


@op("If", since=1)
def if_(ctx: Context, cond: Array, *, then_branch: Graph, else_branch: Graph) -> tuple[Any, ...]:
    return tuple(ctx.run_graph(then_branch if _truth(cond, "the condition") else else_branch, []))


def _stack(items: list[Array], value: Any, axis: int = 0, what: str = "scan output") -> Array:
    """Per-iteration results along a new axis; without any, an empty tensor of the declared type."""
    if items:
        shapes = {item.shape for item in items}
        if len(shapes) > 1:
            raise OpError(f"{what}s of different shapes: {', '.join(str(list(s)) for s in sorted(shapes))}")
        return np.stack(items, axis)
    dims = [d if isinstance(d, int) else 0 for d in value.shape or ()]
    return np.empty((0, *dims), value.dtype or np.float32)


@op("Loop", since=1)
def loop(ctx: Context, m: Array | None, cond: Array | None, *initial: Any, body: Graph) -> tuple[Any, ...]:
    limit = None if m is None else int(np.asarray(m).reshape(()))
    going = cond is None or _truth(cond, "the condition")
    carried: list[Any] = list(initial)
    scanned: list[list[Array]] = [[] for _ in body.outputs[1 + len(carried) :]]
    iteration = 0
    while going and (limit is None or iteration < limit):
        ctx.tick(iteration)
        results = ctx.run_graph(body, [np.array(iteration, np.int64), np.array(going), *carried])
        going = _truth(results[0], "the condition that the body gives")
        carried = results[1 : 1 + len(carried)]
        for items, item in zip(scanned, results[1 + len(carried) :], strict=True):
            items.append(item)
        iteration += 1
    declared = body.outputs[1 + len(carried) :]
    return (*carried, *(_stack(items, value) for items, value in zip(scanned, declared, strict=True)))


def _scan(
    ctx: Context,
    states: list[Any],
    sequences: list[Array],
    body: Graph,
    input_axes: Sequence[int],
    input_directions: Sequence[int],
    output_axes: Sequence[int],
    output_directions: Sequence[int],
) -> list[Any]:
    n_outputs = len(body.outputs) - len(states)
    lengths = set()
    for sequence, axis in zip(sequences, input_axes, strict=True):
        if not -sequence.ndim <= axis < sequence.ndim:
            raise OpError(f"scan axis {axis} is out of range for rank {sequence.ndim}")
        lengths.add(sequence.shape[axis])
    if len(lengths) != 1:
        raise OpError(f"scan inputs of different lengths: {sorted(lengths)}")
    (length,) = lengths
    scanned: list[list[Array]] = [[] for _ in range(n_outputs)]
    for step in range(length):
        ctx.tick(step)
        slices = [
            np.take(sequence, length - 1 - step if backwards else step, axis)
            for sequence, axis, backwards in zip(sequences, input_axes, input_directions, strict=True)
        ]
        results = ctx.run_graph(body, [*states, *slices])
        states = results[: len(states)]
        for items, item in zip(scanned, results[len(states) :], strict=True):
            items.append(np.asarray(item))
    stacked = []
    declared = body.outputs[len(states) :]
    for items, value, axis, backwards in zip(scanned, declared, output_axes, output_directions, strict=True):
        stacked.append(_stack(items[::-1] if backwards else items, value, axis))
    return [*states, *stacked]


def _filled(values: Iterable[int] | None, count: int, what: str) -> list[int]:
    result = [0] * count if values is None else list(values)
    if len(result) != count:
        raise OpError(f"{what} has {len(result)} entries, expected {count}")
    return result


@op("Scan", since=9)
def scan(
    ctx: Context,
    *initial_state_and_scan_inputs: Any,
    body: Graph,
    num_scan_inputs: int,
    scan_input_axes: Sequence[int] | None = None,
    scan_input_directions: Sequence[int] | None = None,
    scan_output_axes: Sequence[int] | None = None,
    scan_output_directions: Sequence[int] | None = None,
) -> tuple[Any, ...]:
    inputs = list(initial_state_and_scan_inputs)
    n_states = len(inputs) - num_scan_inputs
    if num_scan_inputs < 1 or n_states < 0:
        raise OpError(f"num_scan_inputs is {num_scan_inputs}, there are {len(inputs)} inputs")
    n_outputs = len(body.outputs) - n_states
    return tuple(
        _scan(
            ctx,
            inputs[:n_states],
            inputs[n_states:],
            body,
            _filled(scan_input_axes, num_scan_inputs, "scan_input_axes"),
            _filled(scan_input_directions, num_scan_inputs, "scan_input_directions"),
            _filled(scan_output_axes, n_outputs, "scan_output_axes"),
            _filled(scan_output_directions, n_outputs, "scan_output_directions"),
        )
    )


@op("Scan", since=8)
def scan_8(
    ctx: Context,
    sequence_lens: Array | None = None,
    *initial_state_and_scan_inputs: Any,
    body: Graph,
    num_scan_inputs: int,
    directions: Sequence[int] | None = None,
) -> tuple[Any, ...]:
    """Version 8: every input has a batch axis first and the scan axis second."""
    inputs = list(initial_state_and_scan_inputs)
    n_states = len(inputs) - num_scan_inputs
    if num_scan_inputs < 1 or n_states < 0:
        raise OpError(f"num_scan_inputs is {num_scan_inputs}, there are {len(inputs)} inputs")
    backwards = _filled(directions, num_scan_inputs, "directions")
    n_outputs = len(body.outputs) - n_states
    batch, length = inputs[n_states].shape[:2]
    lengths = [length] * batch if sequence_lens is None else [int(n) for n in sequence_lens]
    rows = []
    for i, valid in enumerate(lengths):
        sequences = [x[i, :valid] for x in inputs[n_states:]]
        row = _scan(
            ctx,
            [x[i] for x in inputs[:n_states]],
            sequences,
            body,
            [0] * num_scan_inputs,
            backwards,
            [0] * n_outputs,
            [0] * n_outputs,
        )
        for k in range(n_states, len(row)):  # shorter sequences are padded with zeros
            padding = [(0, length - valid), *[(0, 0)] * (row[k].ndim - 1)]
            row[k] = np.pad(row[k], padding)
        rows.append(row)
    return tuple(np.stack(column) for column in zip(*rows, strict=True))
