"""Operators that move elements, of every size, in both memory orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyonnx
from tests.tinyonnx.kernels.fast import choose, run
from tinyonnx.codegen.kernel import DISABLED
from tinyonnx.kernels import move
from tinyonnx.registry import Info, lookup
from tinyonnx.runtime.constants import ConstantPool

SIZES = st.sampled_from([1, 2, 3, 15, 16, 17, 33])


def numbered(shape: list[int] | tuple[int, ...]) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def check(name: str, *inputs: Any, layout: str = "row_major", **options: Any) -> None:
    np.testing.assert_array_equal(*run(name, *inputs, layout=layout, **options))


@given(data=st.data())
@settings(max_examples=60)
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


@given(data=st.data())
@settings(max_examples=60)
def test_pads_with_elements_of_the_input(data: st.DataObject) -> None:
    draw = data.draw
    shape = draw(st.lists(st.sampled_from([2, 3, 16, 33]), min_size=1, max_size=4), "shape")
    layout = draw(st.sampled_from(["row_major", "channels_last"]), "layout")
    mode = draw(st.sampled_from(["reflect", "edge", "wrap"]), "mode")
    axes = draw(st.permutations(range(len(shape))), "axes")[:2]
    sides = [[draw(st.integers(-1, shape[axis] - 2), "pad") for axis in axes] for _ in range(2)]
    if all(shape[axis] + before + after > 0 for axis, before, after in zip(axes, *sides)):
        valid = all(
            shape[axis] + min(before, 0) + min(after, 0) - (mode == "reflect") >= max(before, after, 1)
            for axis, before, after in zip(axes, *sides)
        )
        if valid:
            pads = np.array(sides).ravel()
            check("Pad", numbered(shape), pads, None, np.array(axes), mode=mode, constants=(1, 3), layout=layout)


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_pads_of_one_side(mode: str) -> None:
    for pads in ([0, 2], [2, 0], [2, 2], [-1, 1], [1, -1]):
        check("Pad", numbered([3, 3]), np.array(pads), None, np.array([1]), mode=mode, constants=(1, 3))
    check("Pad", numbered([1, 3]), np.array([0, 2, 0, 2]), mode="edge", constants=(1,))


@pytest.mark.parametrize("shape", [(5,), (5, 3), (2, 5, 33)])
@pytest.mark.parametrize(
    "indices",
    [0, 3, -1, [2], [[4]], [0, 1, 2], [1, 3], [0, 2, 4], [[0, 1], [2, 3]], [3, 2, 1], [-2, -1], [4, 4], [0, 4, 1]],
)
def test_gather_of_constant_indices(shape: tuple[int, ...], indices: Any) -> None:
    axis = shape.index(5)
    check("Gather", numbered(shape), np.array(indices), axis=axis, constants=(1,))
    check("Gather", numbered(shape), np.array(indices, np.int32), axis=axis - len(shape), constants=(1,))


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
    chosen = choose(entry, Info(out.dtype, out.shape), [Info(x.dtype, x.shape), Info(pads.dtype, pads.shape, pads)], {})
    assert not isinstance(chosen, str)
    for call in chosen.bind(ConstantPool(), out, x, pads, value):
        BoundKernel(call.kernel, call.args).run(0, 1)
    np.testing.assert_array_equal(out, np.pad(x, ((0, 0), (1, 1), (0, 0)), constant_values=value))


def test_refusals() -> None:
    f4 = np.dtype(np.float32)
    x = Info(f4, (2, 3))

    def constant(*numbers: int) -> Info:
        return Info(np.dtype(np.int64), (len(numbers),), np.array(numbers))

    pad = lookup("", "Pad", 22)
    # other Gathers have a kernel that reads indices as it runs
    moved = next(kernel for kernel in lookup("", "Gather", 22).fast if kernel.bind.__module__ == move.__name__)
    known = Info(f4, (2, 3), np.zeros((2, 3), np.float32))
    assert "constant" in str(choose(lookup("", "Transpose", 22), x, [known], {}))
    assert "data" in str(choose(pad, x, [x, Info(np.dtype(np.int64), (4,))], {"mode": "reflect"}))
    assert "mode mirror" in str(choose(pad, x, [x, constant(0, 1, 0, 0)], {"mode": "mirror"}))
    for mode, pads in [("reflect", (2, 0, 0, 0)), ("reflect", (-1, 0, 1, 0)), ("wrap", (0, 0, 0, 4))]:
        assert "more elements" in str(choose(pad, x, [x, constant(*pads)], {"mode": mode})), pads
    deep_pads = constant(1, 1, 1, 0, 0, 0)
    assert "2 axes" in str(choose(pad, x, [Info(f4, (3, 3, 3)), deep_pads], {"mode": "edge"}))
    for indices in [(2,), (-3,), (0, 5)]:
        assert "range" in str(moved.when(x, x, constant(*indices), axis=0))
    assert "axis" in str(moved.when(x, x, constant(0), axis=2))
    assert "spaced" in str(moved.when(x, x, constant(2, 1, 0, 2, 1, 0), axis=1))
    assert "spaced" in str(moved.when(x, x, constant(0, -1), axis=1))
    assert "data" in str(moved.when(x, x, Info(np.dtype(np.int64), (1,))))
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


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_pads_and_gathers_of_sizes_that_vary(mode: str) -> None:
    text = f"""
        <ir_version: 8, opset_import: ["" : 18]>
        g (float[m, n] x) => (float[M, N] y, float[m] z) {{
            pads = Constant <value_ints = [0, 3, 1, 2]> ()
            y = Pad <mode = "{mode}"> (x, pads)
            last = Constant <value_int = -2> ()
            z = Gather <axis = 1> (x, last)
        }}
    """
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    for shape in [(2, 9), (3, 12), (5, 4), (2, 40), (4, 3), (2, 2)]:
        x = numbered(shape)
        if mode != "edge" and shape[1] <= 3:
            continue
        y, z = session.run(None, {"x": x})
        np.testing.assert_array_equal(y, np.pad(x, ((0, 1), (3, 2)), mode=mode))  # type: ignore[call-overload]
        np.testing.assert_array_equal(z, x[:, -2])
    if not DISABLED:
        (plans,) = session._sized.values()
        assert not plans.refused, plans.refused
