"""Operators that move elements, of every size, in both memory orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tinyonnx.kernels.fast import choose, run
from tinyonnx.registry import Info, lookup
from tinyonnx.runtime.constants import ConstantPool

SIZES = st.sampled_from([1, 2, 3, 15, 16, 17, 33])


def numbered(shape: list[int] | tuple[int, ...]) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def check(name: str, *inputs: Any, layout: str = "row_major", **options: Any) -> None:
    np.testing.assert_array_equal(*run(name, *inputs, layout=layout, **options))


@given(data=st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_moves(data: st.DataObject) -> None:
    draw = data.draw
    shape = draw(st.lists(SIZES, min_size=1, max_size=4), "shape")
    layout = draw(st.sampled_from(["row_major", "channels_last"]), "layout")
    x = numbered(shape)
    check("Transpose", x, layout=layout, perm=draw(st.permutations(range(len(shape))), "perm"))

    steps = np.array([draw(st.sampled_from([1, 2, -1, -3]), "step") for _ in shape])
    starts = np.array([draw(st.integers(0, n - 1), "start") for n in shape])
    ends = np.where(steps > 0, starts + draw(st.integers(1, 20), "end"), np.maximum(starts - 9, -1))
    ends = np.where(ends < 0, -1000, ends)
    check("Slice", x, starts, ends, np.arange(len(shape)), steps, constants=(1, 2, 3, 4), layout=layout)

    axis = draw(st.integers(-len(shape), len(shape) - 1), "axis")
    more = list(shape)
    more[axis] = draw(SIZES, "other")
    constants = draw(st.sampled_from([(), (0,), (1,)]), "constants")
    check("Concat", x, numbered(more), x + 1, axis=axis, constants=constants, layout=layout)

    pads = [draw(st.integers(0, 3), "pad") for _ in range(2 * len(shape))]
    if shape[0] > 1:
        pads[0] = -1
    check("Pad", x, np.array(pads), np.array(-2.5, np.float32), constants=(1, 2), layout=layout)
    ones = [1 if draw(st.booleans(), "repeated") else n for n in shape]
    check("Expand", numbered(ones), np.array(shape), layout=layout)


def test_pad_of_some_axes() -> None:
    check("Pad", numbered([2, 3, 4]), np.array([1, 2]), None, np.array([-1]), constants=(1, 3))


def test_old_attributes() -> None:
    check("Slice", numbered([4, 5]), opset=1, starts=[1, -2], ends=[3, 100], constants=())
    check("Concat", numbered([4, 5]), numbered([4, 2]), opset=1, constants=())


@pytest.mark.parametrize("dtype", [bool, np.int8, np.float16, np.int64, np.float64])
def test_every_size_of_element(dtype: Any) -> None:
    """The arrays that `run` places are of float32; here others are bound directly."""
    from tinyonnx.kernels import BoundKernel
    from tinyonnx.runtime.constants import ConstantPool

    x = (np.arange(24) % 5).astype(dtype).reshape(2, 3, 4)
    entry = lookup("", "Pad", 22)
    out = np.zeros((2, 5, 4), dtype)
    pads, value = np.array([0, 1, 0, 0, 1, 0]), np.array(1, dtype)
    chosen = choose(entry, Info(out.dtype, out.shape), [Info(x.dtype, x.shape)], {})
    assert not isinstance(chosen, str)
    for call in chosen.bind(ConstantPool(), out, x, pads, value):
        BoundKernel(call.kernel, call.args).run(0, 1)
    np.testing.assert_array_equal(out, np.pad(x, ((0, 0), (1, 1), (0, 0)), constant_values=value))


def test_refusals() -> None:
    f4 = np.dtype(np.float32)
    x = Info(f4, (2, 3))
    assert "reflect" in str(choose(lookup("", "Pad", 22), x, [x, x], {"mode": "reflect"}))
    assert "data" in str(choose(lookup("", "Slice", 22), x, [x, Info(np.dtype(np.int64), (1,))], {}))
    words = Info(np.dtype(object), (2, 3))
    assert "object" in str(choose(lookup("", "Transpose", 22), words, [words], {}))
    deep = Info(f4, (1,) * 7)
    assert "7 axes" in str(choose(lookup("", "Transpose", 22), deep, [deep], {}))


def test_a_folded_constant_may_be_strided() -> None:
    """A reversed vector is a view with a negative step."""
    x, c = np.arange(3, dtype=np.float32), np.arange(4, dtype=np.float32)[::-1]
    entry = lookup("", "Concat", 22)
    out = np.empty(7, np.float32)
    for call in entry.fast[0].bind(ConstantPool(), out, x, c, axis=0):
        call.kernel(*call.args)
    np.testing.assert_array_equal(out, np.concatenate([x, c]))
