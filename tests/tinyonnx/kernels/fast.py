"""Runs a fast kernel as a plan would, with poison around every array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import tinyonnx.kernels
from tinyonnx.codegen.kernel import DISABLED
from tinyonnx.ir import Array, Node
from tinyonnx.kernels import BoundKernel
from tinyonnx.limits import Limits
from tinyonnx.registry import FUSED, Call, Fast, Info, Op, lookup
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.runtime.operator_call import OpContext

assert tinyonnx.kernels

POISON = np.float32(-12345.678)
MARGIN = 80  # more than a tile is wide


def place(array: Array, layout: str, surroundings: list[Array]) -> Array:
    """A copy in that memory order, in the middle of poison."""
    last = layout == "channels_last" and array.ndim > 2
    ordered = np.moveaxis(array, 1, -1) if last else array
    memory = np.full(ordered.size + 2 * MARGIN, POISON, np.float32)
    inner = memory[MARGIN:-MARGIN].reshape(ordered.shape)
    inner[...] = ordered
    surroundings.append(memory)
    return np.moveaxis(inner, -1, 1) if last else inner


def choose(entry: Op, out: Info, infos: Sequence[Info | None], attributes: dict[str, Any]) -> Fast | str:
    """The first kernel that accepts, or why none does."""
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
    **attributes: Any,
) -> tuple[Array, Array]:
    """(the kernel's result, the operator's first); inputs at `constants` are constant and read-only.

    `layout` matters only where the kernel takes any. Asserts that nothing around the
    output and the inputs was written. With `second` the second output is asked for, and given;
    the first is then asserted.
    """
    entry = lookup(FUSED if fused else "", name, opset)
    node = Node(name, inputs, [None, None], opset=opset)  # type: ignore[arg-type]
    ctx = (OpContext(node, Limits()) if second else None,) if entry.takes_ctx else ()
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
        out = place(np.full(expected.shape, np.nan, np.float32), order, surroundings)
    other = place(np.full(results[1].shape, np.nan, np.float32), order, surroundings) if second else None
    outs = [out, other] if chosen.outputs else out
    found = chosen.bind(ConstantPool(), outs, *arrays, **attributes)
    calls = found if isinstance(found, list) else [found]
    run_shares(calls, 1)
    if not in_place:
        whole = out.copy()
        run_shares(calls, 3)  # a plan calls it again and again, on several threads
        # numpy, in the place of the primitives, adds up in another order for another number of rows
        np.testing.assert_allclose(out, whole, rtol=1e-5 if DISABLED else 0, atol=1e-5 if DISABLED else 0)
    for memory in surroundings:
        assert (memory[:MARGIN] == POISON).all()
        assert (memory[-MARGIN:] == POISON).all()
    if other is not None:
        assert_close(out, expected)
        return other, results[1]
    return out, expected


def run_shares(calls: Sequence[Call], parts: int) -> None:
    """One share after the other: what threads do in any order gives the same."""
    for call in calls:
        memory = np.full(call.scratch * parts + 2 * MARGIN, POISON, np.float32)
        scratch = memory[MARGIN:-MARGIN]
        scratch[:] = np.nan
        bound = BoundKernel(call.kernel, (*call.args, scratch) if call.scratch else call.args)
        for part in reversed(range(parts)):
            bound.run(part, parts)
        assert (memory[:MARGIN] == POISON).all()
        assert (memory[-MARGIN:] == POISON).all()


def assert_close(actual: Array, expected: Array, tolerance: float = 1e-5) -> None:
    """Equal up to float32 rounding relative to the largest finite value; NaN and infinities alike."""
    assert actual.shape == expected.shape
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    scale = np.abs(expected[finite]).max(initial=1.0)
    np.testing.assert_allclose(actual[finite], expected[finite], rtol=0, atol=tolerance * scale)
