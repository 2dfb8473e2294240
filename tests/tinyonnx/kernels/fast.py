"""Runs a kernel as a plan would, with poison around every array, and checks what each share of the work writes.

Shares run one after the other, which would hide that two of them use the same memory. So the
outputs and the scratch are marked anew before each share: no share finds what another one left,
and no two may write the same element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

import tinyonnx.kernels.others
from tinyonnx.codegen.arguments import leaves
from tinyonnx.codegen.kernel import DISABLED
from tinyonnx.ir import Array, Node
from tinyonnx.kernels import BoundKernel
from tinyonnx.limits import Limits
from tinyonnx.registry import FUSED, Call, Fast, Info, Op, lookup
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.runtime.operator_call import OpContext

assert tinyonnx.kernels.others

POISON = np.float32(-12345.678)
MARGIN = 80  # more than a tile is wide


def poison_of(dtype: np.dtype[Any]) -> Any:
    """Return a number that no test uses."""
    return POISON if dtype == np.float32 else np.full(dtype.itemsize, 0x5A, np.uint8).view(dtype)[0]


def blank(like: Array) -> Array:
    """Return an array of NaN or, of integers, of poison."""
    return np.full(like.shape, np.float32(np.nan) if like.dtype == np.float32 else poison_of(like.dtype))


def place(array: Array, layout: str, surroundings: list[Array]) -> Array:
    """Return a copy in that memory order, in the middle of poison."""
    last = layout == "channels_last" and array.ndim > 2
    ordered = np.moveaxis(array, 1, -1) if last else array
    memory = np.full(ordered.size + 2 * MARGIN, poison_of(array.dtype))
    inner = memory[MARGIN:-MARGIN].reshape(ordered.shape)
    inner[...] = ordered
    surroundings.append(memory)
    return np.moveaxis(inner, -1, 1) if last else inner


def choose(entry: Op, out: Info, infos: Sequence[Info | None], attributes: dict[str, Any]) -> Fast | str:
    """Return the first kernel that accepts, or why none does."""
    reasons = []
    for candidate in entry.fast:
        reason = candidate.when(out, *infos, **attributes)
        if reason is None:
            return candidate
        reasons.append(reason)
    return "; ".join(reasons) or "no kernel"


def run(
    name: str,
    *inputs: Array | None,
    constants: Sequence[int] = (1, 2),
    layout: str = "channels_last",
    fused: bool = False,
    opset: int = 24,
    in_place: bool = False,
    second: bool = False,
    domain: str = "",
    rounded: bool = False,
    **attributes: Any,
) -> tuple[Array, Array]:
    """Return (the kernel's result, the operator's first); inputs at `constants` are constant and read-only.

    `layout` matters only where the kernel takes any. Asserts that shares write to memory of their own, to no input
    and to nothing around arrays, and that their number doesn't change the result. With `second`
    all outputs are asked for, and the second is given; the others are then asserted. With `rounded` the kernel
    rounds operands of products, the operator does not.
    """
    entry = lookup(FUSED if fused else domain, name, opset)
    node = Node(name, inputs, [None, None] if second else [None], opset=opset)  # type: ignore[arg-type]
    ctx = (OpContext(node, Limits()),) if entry.takes_ctx else ()
    results = entry.function(*ctx, *inputs, **attributes)
    expected = np.asarray(results[0] if isinstance(results, tuple) else results)
    infos = [None if x is None else Info(x.dtype, x.shape, x if i in constants else None) for i, x in enumerate(inputs)]
    chosen = choose(entry, Info(expected.dtype, expected.shape), infos, attributes)
    assert isinstance(chosen, Fast), chosen
    order = layout if chosen.layout == "any" else chosen.layout
    surroundings: list[Array] = []
    arrays: list[Array | None] = []
    for i, x in enumerate(inputs):
        if x is not None and i in constants:
            x = x.copy()
            x.flags.writeable = False
        elif x is not None:
            x = place(x, order, surroundings)
        arrays.append(x)
    if in_place:
        assert chosen.in_place
        out = arrays[0]
        assert out is not None
    else:
        out = place(blank(expected), order, surroundings)
    other = place(blank(results[1]), order, surroundings) if second else None
    others = [place(blank(result), order, surroundings) for result in results[2:]] if second else []
    outs = [out, other, *others] if chosen.outputs else out
    assert chosen.rounds or not rounded
    how: dict[str, Any] = {"rounded": True} if rounded else {}
    status = np.zeros(1, np.int64)
    if chosen.reports:
        how["status"] = status
    found = chosen.bind(ConstantPool(), outs, *arrays, **attributes, **how)
    calls = guard(found if isinstance(found, list) else [found], surroundings)
    before = out.copy()
    written = run_whole(calls, surroundings)
    whole = out.copy()
    if in_place:
        out[...] = before
    run_shares(calls, written, 3, surroundings, in_place)
    # without the compiler numpy adds up in another order for another number of rows
    np.testing.assert_allclose(out, whole, rtol=1e-5 if DISABLED else 0, atol=1e-5 if DISABLED else 0)
    if other is not None:
        assert_close(out, expected)
        for result, wanted in zip(others, results[2:], strict=True):
            assert_close(result, wanted)
        return other, results[1]
    return out, expected


MARK = np.uint32(0x7FC5A5A5)
"""Bits of a NaN that no kernel computes."""

BITS: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
"""Types for the bits of elements, by their size."""


def mark(array: Array) -> None:
    """Fill an array of bits with marks: `MARK`, whose last byte marks bytes."""
    array[:] = MARK.astype(array.dtype)


def guard(calls: Sequence[Call], surroundings: list[Array]) -> list[Call]:
    """Return the calls with copies, surrounded by NaN, of arrays that `run` didn't place: constants and temporaries."""
    placed = [(memory.ctypes.data, memory.ctypes.data + memory.nbytes) for memory in surroundings]
    copies: dict[tuple[int, int], Array] = {}

    def copy(array: Array) -> Array:
        at = array.ctypes.data
        if any(begin <= at < end for begin, end in placed) or array.itemsize not in BITS or not array.size:
            return array
        if (at, array.size) not in copies:
            bits = BITS[array.itemsize]
            memory = np.full(array.size + 2 * MARGIN, np.iinfo(bits).max, bits)  # as a float it is NaN
            memory[MARGIN:-MARGIN] = array.view(bits)
            surroundings.append(memory)
            copies[at, array.size] = memory[MARGIN:-MARGIN].view(array.dtype)
        return copies[at, array.size]

    def guarded(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return copy(value)
        if isinstance(value, tuple):
            items = map(guarded, value)
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        return value

    return [call._replace(args=guarded(call.args)) for call in calls]


def memories(call: Call) -> list[Array]:
    """Return the arrays of a call's arguments as bits, each once."""
    arrays = [x for x in leaves(call.args) if isinstance(x, np.ndarray) and x.itemsize in BITS]
    return list({(x.ctypes.data, x.size): x.view(BITS[x.itemsize]) for x in arrays}.values())


class Scratch:
    """Scratch in the middle of poison, marked before each share."""

    def __init__(self, call: Call, parts: int) -> None:
        self.memory = np.full(call.scratch * parts + 2 * MARGIN, POISON, np.float32)
        self.inner = self.memory[MARGIN:-MARGIN]
        self.bound = BoundKernel(call.kernel, (*call.args, self.inner) if call.scratch else call.args)

    def run(self, part: int, parts: int, surroundings: Sequence[Array]) -> Array:
        """Run a share and return where it wrote to the scratch; assert that it wrote to nothing around the arrays."""
        bits = self.inner.view(np.uint32)
        bits[:] = MARK
        margins = [(memory, memory[:MARGIN].tobytes(), memory[-MARGIN:].tobytes()) for memory in surroundings]
        self.bound.run(part, parts)
        for memory, before, after in [*margins, (self.memory, *[np.full(MARGIN, POISON, np.float32).tobytes()] * 2)]:
            assert memory[:MARGIN].tobytes() == before, "a share wrote in front of an array"
            assert memory[-MARGIN:].tobytes() == after, "a share wrote behind an array"
        return np.asarray(bits != MARK)


def run_whole(calls: Sequence[Call], surroundings: Sequence[Array]) -> list[list[Array]]:
    """Run each call as a single share; returns the arrays that it wrote to."""
    written = []
    for call in calls:
        arrays = memories(call)
        before = [array.copy() for array in arrays]
        Scratch(call, 1).run(0, 1, surroundings)
        written.append([array for array, old in zip(arrays, before) if (array != old).any()])
    return written


def run_shares(
    calls: Sequence[Call], written: Sequence[Sequence[Array]], parts: int, surroundings: Sequence[Array], in_place: bool
) -> None:
    """Run each call as several shares, which must write to other elements of the scratch and of `written` each."""
    for call, outputs in zip(calls, written, strict=True):
        others = [array for array in memories(call) if not any(np.shares_memory(array, out) for out in outputs)]
        contents = [array.copy() for array in others]
        scratch = Scratch(call, parts)
        used = np.zeros(scratch.inner.size, bool)
        results = [array.copy() for array in outputs]
        done = [np.zeros(array.size, bool) for array in outputs]
        for part in reversed(range(parts)):
            if not in_place:
                for array in outputs:
                    mark(array)
            before = [array.copy() for array in outputs]
            touched = scratch.run(part, parts, surroundings)
            assert not (used & touched).any(), "two shares use the same scratch"
            used |= touched
            for array, old, result, taken in zip(outputs, before, results, done):
                new = array != old
                assert not (new & taken).any(), "two shares write the same element"
                result[new] = array[new]
                taken |= new
        for array, result in zip(outputs, results):
            array[:] = result
        for array, content in zip(others, contents):
            assert (array == content).all(), "a kernel wrote to an input"


def assert_close(actual: Array, expected: Array, tolerance: float = 1e-5) -> None:
    """Assert equality up to float32 rounding relative to the largest finite value; NaN and infinities must match."""
    assert actual.shape == expected.shape
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    scale = np.abs(expected[finite]).max(initial=1.0)
    np.testing.assert_allclose(actual[finite], expected[finite], rtol=0, atol=tolerance * scale)


def draw_windows(draw: Callable[..., Any], largest: int) -> dict[str, list[int]]:
    """Draw the size, dilations, strides and pads of windows over two axes, of at most `largest` elements each."""
    sizes = st.integers(1, largest)
    return {
        "kernel_shape": [draw(sizes, "kernel") for _ in range(2)],
        "dilations": [draw(st.integers(1, 3), "dilation") for _ in range(2)],
        "strides": [draw(st.integers(1, 3), "stride") for _ in range(2)],
        "pads": [draw(st.integers(-1, 4), "pad") for _ in range(4)],
    }
