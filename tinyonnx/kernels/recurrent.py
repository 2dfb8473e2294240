"""LSTM, GRU and RNN: one matrix product computes the input products of all steps, then the steps follow one by one.

Each gate has the hidden size, padded to whole vectors. Recurrent weights are packed into panels of four vectors of
columns, so that even a single sequence keeps four sums in registers. Shares are directions and tiles of sequences;
within a share the steps follow each other.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinyonnx.codegen.arguments import Static
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import LANES, LINEAR, ROWS_3, Block, Epilogue, Lines, Rows, Taps, Weights, gemm_tiles
from tinyonnx.ir import Array
from tinyonnx.kernels.elementwise import ADD, MULTIPLY, activate, combine

LSTM, GRU, RNN = range(3)

_VECTORS = 4
"""Vectors in a panel of recurrent weights: a single sequence needs this many sums to hide the latency of an FMA."""

PANEL = _VECTORS * LANES

_MANY = 6 if ROWS_3 == 8 else 2
"""Sequences in a tile; with panels of four vectors, the sums of more would not fit into the registers."""

ROWS = 24
"""Sequences that are advanced together, in whole tiles."""

_ZERO, _ONE = np.float32(0), np.float32(1)


class Inputs(NamedTuple):
    """Input products: those of step t and sequence b start at t·time_step + b·batch_step; directions follow each other.

    `lengths` holds the number of steps of each sequence; it is empty if all sequences have all steps.
    """

    data: Array
    time_step: int
    batch_step: int
    lengths: Array


class Recurrence(NamedTuple):
    """Packed recurrent weights and their bias for each direction, and peepholes, empty if there are none."""

    weights: Array
    bias: Array
    peepholes: Array


class Functions(NamedTuple):
    """The clipping before activations, and the activations of the gates, the new content, and the LSTM's output."""

    clip: Epilogue
    gate: Epilogue
    content: Epilogue
    output: Epilogue


class States(NamedTuple):
    """States [direction, batch, hidden] or [batch, direction, hidden]; empty arrays for absent ones."""

    h: Array
    c: Array
    direction_step: int
    batch_step: int


class Outputs(NamedTuple):
    """The outputs of all steps, an empty array if nothing reads them, and the last states."""

    y: Array
    time_step: int
    direction_step: int
    batch_step: int
    last: States


class Extent(NamedTuple):
    """Sizes of a layer; `reverse` is 1 if its first direction runs backwards.

    `option` is 1 for an LSTM whose forget gate is 1 - input gate, and for a GRU that resets after the product.
    """

    time: int
    batch: int
    hidden: int
    directions: int
    reverse: int
    option: int


class Sequences(NamedTuple):
    """Some sequences of one direction."""

    direction: int
    first: int
    rows: int


# -- parts of a step --------------------------------------------------------------------


@jit
def in_vectors(n: int) -> int:
    """Round `n` up to whole vectors."""
    return (n + LANES - 1) // LANES * LANES


@jit
def in_panels(n: int) -> int:
    """Round `n` up to whole panels."""
    return (n + PANEL - 1) // PANEL * PANEL


@jit
def multiply_states(x: Rows, m: int, depth: int, w: Weights, out: Lines, columns: int) -> None:
    """Compute out[i, :columns] = x[i, :depth] · w + bias for `m` rows."""
    taps = Taps(1, 0, 1, 0, depth, 0)
    epilogue = Epilogue(0, LINEAR, _ZERO, _ZERO)
    tiles = (m + _MANY - 1) // _MANY
    height = (m + tiles - 1) // tiles
    for column in range(0, columns, PANEL):
        weights = Weights(w.data, w.start + column * depth, w.bias, w.bias_start + column)
        lines = Lines(out.data, out.residual, out.start + column, out.step, out.column)
        block = Block(lines, PANEL - LANES, LANES)
        if _MANY > 5 and height > 5:
            gemm_tiles(6, _VECTORS, 0, 0, x, m, taps, weights, block, epilogue)
        elif _MANY > 4 and height > 4:
            gemm_tiles(5, _VECTORS, 0, 0, x, m, taps, weights, block, epilogue)
        elif _MANY > 3 and height > 3:
            gemm_tiles(4, _VECTORS, 0, 0, x, m, taps, weights, block, epilogue)
        elif _MANY > 2 and height > 2:
            gemm_tiles(3, _VECTORS, 0, 0, x, m, taps, weights, block, epilogue)
        elif height > 1:
            gemm_tiles(2, _VECTORS, 0, 0, x, m, taps, weights, block, epilogue)
        else:
            gemm_tiles(1, _VECTORS, 0, 0, x, m, taps, weights, block, epilogue)


@jit
def add_product(out: Array, a: Array, b: Array) -> None:
    """Compute out[i] += a[i] · b[i]."""
    for i in range(out.shape[0]):
        out[i] += a[i] * b[i]


@jit
def squash(gates: Array, function: Epilogue, clip: Epilogue) -> None:
    """Compute gates[i] = activation(clip(gates[i]))."""
    activate(gates, clip)
    activate(gates, function)


@jit
def step_lstm(gates: Array, x: Array, h: Array, c: Array, peepholes: Array, functions: Functions, coupled: int) -> None:
    """Compute one step of one sequence; the order of the gates is input, output, forget, content."""
    n = h.shape[0]
    clip, gate = functions.clip, functions.gate
    combine(gates, x, ADD)
    enter, leave, forget, content = gates[:n], gates[n : 2 * n], gates[2 * n : 3 * n], gates[3 * n :]
    if peepholes.shape[0] == 0:
        squash(gates[: 3 * n], gate, clip)
    else:
        add_product(enter, peepholes[:n], c)
        add_product(forget, peepholes[2 * n :], c)
        squash(enter, gate, clip)
        squash(forget, gate, clip)
    squash(content, functions.content, clip)
    if coupled:
        for i in range(n):
            forget[i] = _ONE - enter[i]
    combine(c, forget, MULTIPLY)
    add_product(c, enter, content)
    if peepholes.shape[0] != 0:
        add_product(leave, peepholes[n : 2 * n], c)
        squash(leave, gate, clip)
    for i in range(n):
        h[i] = c[i]
    activate(h, functions.output)
    combine(h, leave, MULTIPLY)


@jit
def blend(h: Array, update: Array, content: Array) -> None:
    """Compute h[i] = (1 - update[i]) · content[i] + update[i] · h[i]."""
    for i in range(h.shape[0]):
        h[i] = (_ONE - update[i]) * content[i] + update[i] * h[i]


@jit
def length_of(lengths: Array, sequence: int, time: int) -> int:
    """Return the number of steps of a sequence."""
    return time if lengths.shape[0] == 0 else int(lengths[sequence])


@jit
def time_of(lengths: Array, sequence: int, size: Extent, direction: int, step: int) -> int:
    """Return the time that a sequence has reached in a step of a direction; -1 if it has ended."""
    length = length_of(lengths, sequence, size.time)
    if step >= length:
        return -1
    return length - 1 - step if direction + size.reverse == 1 else step


@jit
def load_state(state: Array, source: Array, start: int, hidden: int) -> None:
    """Copy an initial state, padded with zeros; all zeros if `source` is empty."""
    for i in range(state.shape[0]):
        state[i] = _ZERO
    if source.shape[0] > 0:
        given = source[start : start + hidden]
        for i in range(hidden):
            state[i] = given[i]


@jit
def store(state: Array, target: Array, start: int, hidden: int) -> None:
    """Copy a state to an output, unless the output is empty."""
    if target.shape[0] > 0:
        place = target[start : start + hidden]
        for i in range(hidden):
            place[i] = state[i]


# -- kernel -----------------------------------------------------------------------------


@jit
def row_of_gates(cell: Static, n: int) -> int:
    """Return the number of floats in the gates of a sequence whose padded hidden size is `n`."""
    if cell == LSTM:
        return in_panels(4 * n)
    return in_panels(2 * n) + in_panels(n) if cell == GRU else in_panels(n)


@jit
def run_sequences(
    cell: Static, x: Inputs, layer: Recurrence, functions: Functions, initial: States, out: Outputs, size: Extent,
    chosen: Sequences, scratch: Array,
) -> None:  # fmt: skip
    """Compute all steps of some sequences of one direction; scratch holds two states and the gates of each."""
    hidden, n, rows, direction = size.hidden, in_vectors(size.hidden), chosen.rows, chosen.direction
    width = row_of_gates(cell, n)
    gates_at = 2 * rows * n
    weights_at, bias_at = direction * hidden * width, direction * width
    products = (4 if cell == LSTM else 3 if cell == GRU else 1) * n
    early = in_panels(2 * n)
    peepholes = layer.peepholes[direction * 3 * n : (direction + 1) * 3 * n]
    longest = 0
    for r in range(rows):
        b = chosen.first + r
        at = direction * initial.direction_step + b * initial.batch_step
        load_state(scratch[r * n : (r + 1) * n], initial.h, at, hidden)
        load_state(scratch[(rows + r) * n : (rows + r + 1) * n], initial.c, at, hidden)
        longest = max(longest, length_of(x.lengths, b, size.time))
    states = Rows(scratch, 0, n)
    for s in range(longest):
        # the products of all rows read the states before any of them changes
        if cell == GRU:
            w = Weights(layer.weights, weights_at, layer.bias, bias_at)
            multiply_states(states, rows, hidden, w, Lines(scratch, scratch, gates_at, width, LANES), early)
            for r in range(rows):
                b = chosen.first + r
                t = time_of(x.lengths, b, size, direction, s)
                if t >= 0:
                    at = t * x.time_step + b * x.batch_step + direction * products
                    gates = scratch[gates_at + r * width : gates_at + r * width + 2 * n]
                    combine(gates, x.data[at : at + 2 * n], ADD)
                    squash(gates, functions.gate, functions.clip)
                    reset = scratch[(rows + r) * n : (rows + r + 1) * n]
                    for i in range(n):
                        reset[i] = scratch[r * n + i]
                    combine(reset, gates[n:], MULTIPLY)
            w = Weights(layer.weights, weights_at + early * hidden, layer.bias, bias_at + early)
            source = states if size.option else Rows(scratch, rows * n, n)
            lines = Lines(scratch, scratch, gates_at + early, width, LANES)
            multiply_states(source, rows, hidden, w, lines, width - early)
        else:
            w = Weights(layer.weights, weights_at, layer.bias, bias_at)
            multiply_states(states, rows, hidden, w, Lines(scratch, scratch, gates_at, width, LANES), width)
        for r in range(rows):
            b = chosen.first + r
            t = time_of(x.lengths, b, size, direction, s)
            if t >= 0:
                at = t * x.time_step + b * x.batch_step + direction * products
                start = gates_at + r * width
                h, c = scratch[r * n : (r + 1) * n], scratch[(rows + r) * n : (rows + r + 1) * n]
                if cell == LSTM:
                    gates = scratch[start : start + 4 * n]
                    step_lstm(gates, x.data[at : at + 4 * n], h, c, peepholes, functions, size.option)
                elif cell == GRU:
                    update, reset = scratch[start : start + n], scratch[start + n : start + 2 * n]
                    content = scratch[start + early : start + early + n]
                    if size.option:
                        combine(content, reset, MULTIPLY)
                    combine(content, x.data[at + 2 * n : at + 3 * n], ADD)
                    squash(content, functions.content, functions.clip)
                    blend(h, update, content)
                else:
                    content = scratch[start : start + n]
                    combine(content, x.data[at : at + n], ADD)
                    squash(content, functions.gate, functions.clip)
                    for i in range(n):
                        h[i] = content[i]
                store(h, out.y, t * out.time_step + direction * out.direction_step + b * out.batch_step, hidden)
    for r in range(rows):
        b = chosen.first + r
        at = direction * out.last.direction_step + b * out.last.batch_step
        store(scratch[r * n : (r + 1) * n], out.last.h, at, hidden)
        store(scratch[(rows + r) * n : (rows + r + 1) * n], out.last.c, at, hidden)
        for t in range(length_of(x.lengths, b, size.time), size.time):
            if out.y.shape[0] > 0:
                start = t * out.time_step + direction * out.direction_step + b * out.batch_step
                for i in range(start, start + hidden):
                    out.y[i] = _ZERO


@kernel
def recur(
    cell: Static, x: Inputs, layer: Recurrence, functions: Functions, initial: States, out: Outputs, size: Extent,
    scratch: Array, part: int, parts: int,
) -> None:  # fmt: skip
    """Run a recurrent layer whose input products are known."""
    tiles = (size.batch + _MANY - 1) // _MANY
    item, end = share(size.directions * tiles, part, parts)
    room = scratch.shape[0] // parts
    while item < end:
        direction, tile = item // tiles, item % tiles
        count = min(end - item, tiles - tile, ROWS // _MANY)
        first = tile * _MANY
        chosen = Sequences(direction, first, min(count * _MANY, size.batch - first))
        run_sequences(
            cell, x, layer, functions, initial, out, size, chosen, scratch[room * part : room * (part + 1)]
        )  # fmt: skip
        item += count
