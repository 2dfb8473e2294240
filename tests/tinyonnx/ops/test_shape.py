"""Reshape, Slice, Pad and their like: random arguments against onnxruntime, the oldest versions, unknown shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser

import tinyonnx
import tinyonnx.ops
from tests.tinyonnx.ops.running import check_against_onnxruntime, context_of, outputs_of, run
from tinyonnx.errors import OpError
from tinyonnx.registry import Info, lookup

F32, I64 = np.float32, np.int64
FLOAT = np.dtype(F32)


def x(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=F32).reshape(shape)


def ints(*values: int) -> np.ndarray:
    return np.array(values, I64)


@pytest.mark.parametrize("seed", range(40))
def test_random_slices(seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(0 if seed % 4 == 0 else 1, 6, size=rng.integers(1, 4))
    axes = rng.permutation(len(shape))[: rng.integers(1, len(shape) + 1)]
    starts, ends = rng.integers(-9, 10, size=(2, len(axes)))
    steps = rng.choice([-3, -2, -1, 1, 2, 3], size=len(axes))
    ends = np.where(rng.random(len(axes)) < 0.2, np.sign(steps) * (2**63 - 1), ends)
    signed = axes - len(shape) * rng.integers(0, 2, size=len(axes))
    check_against_onnxruntime("Slice", x(*shape), starts, ends, signed, steps, opset=13)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_random_pads(mode, seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(3, 6, size=rng.integers(1, 4))
    low = -1 if mode == "constant" else 0
    pads = rng.integers(low, 3, size=2 * len(shape))
    check_against_onnxruntime("Pad", x(*shape), pads, opset=19, mode=mode)


def test_pads_that_wrap_and_reflect_more_than_once():
    data = np.array([1, 2, 3], F32)
    assert run("Pad", data, ints(4, 5), mode="wrap").tolist() == [3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2]
    assert run("Pad", data, ints(3, 0), mode="reflect").tolist() == [2, 3, 2, 1, 2, 3]
    assert run("Pad", data, ints(-1, 2), mode="edge").tolist() == [2, 3, 3, 3]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.int16])
def test_ranges(dtype):
    for start, limit, delta in [(0, 10, 3), (10, 0, -3), (5, 5, 1), (0, 10, -1), (-7, 2, 2), (0, 9, 3)]:
        check_against_onnxruntime("Range", *(np.array(v, dtype) for v in (start, limit, delta)), opset=11)


def test_ranges_of_fractions():
    check_against_onnxruntime("Range", *(np.array(v, F32) for v in (0, 1, 0.1)), opset=11)
    check_against_onnxruntime("Range", *(np.array(v, np.float64) for v in (1, -1, -0.3)), opset=11)


@pytest.mark.parametrize(
    ("target", "allowzero"), [((0, -1), 0), ((-1,), 0), ((4, 3, 2), 0), ((0, 0, 0, 1), 0), ((2, 3, -1), 1)]
)
def test_reshape(target, allowzero):
    check_against_onnxruntime("Reshape", x(2, 3, 4), ints(*target), opset=14, allowzero=allowzero)


def test_shape_counts_from_either_end():
    for start, end in [(0, 2), (-2, 9), (-9, -1), (2, 1), (5, 9)]:
        check_against_onnxruntime("Shape", x(2, 3, 4), opset=15, start=start, end=end)


# -- versions too old for onnxruntime: by their specification -----------------------------


def test_reshape_1():
    assert run("Reshape", x(2, 6), opset=1, shape=[0, -1, 3]).shape == (2, 2, 3)
    with pytest.raises(OpError, match="attribute shape is missing"):
        run("Reshape", x(2), opset=1)


def test_concat_1_joins_along_axis_1_unless_told():
    np.testing.assert_array_equal(run("Concat", x(2, 1), x(2, 2), opset=1), np.concatenate([x(2, 1), x(2, 2)], 1))
    assert run("Concat", x(1), x(2), opset=1, axis=0).shape == (3,)


def test_split_1_takes_sizes_as_attribute_or_input():
    for inputs, attributes in [((x(5),), {"split": [2, 3]}), ((x(5), np.array([2, 3], F32)), {})]:
        first, second = outputs_of("Split", *inputs, opset=1, n_outputs=2, **attributes)
        assert first.tolist() == [0, 1]
        assert second.tolist() == [2, 3, 4]


def test_tile_1_repeats_one_axis():
    entry = lookup("", "Tile", 1)
    data = x(2, 3)
    result = entry.function(context_of("Tile", 1, 1), data, np.array([2], F32), np.array([1], F32))
    np.testing.assert_array_equal(result, np.tile(data, (1, 2)), strict=True)


def test_pad_1_calls_them_paddings():
    assert run("Pad", x(2), opset=1, paddings=[1, 0], value=7.0).tolist() == [7, 0, 1]


def test_slice_1_has_no_steps():
    check_against_onnxruntime("Slice", x(4, 5), opset=9, starts=[-3, 1], ends=[2**63 - 1, -1], axes=[1, 0])


@pytest.mark.parametrize("opset", [13, 18])
def test_split_into_parts_of_one_size(opset):
    check_against_onnxruntime("Split", x(6, 2), opset=opset, n_outputs=3, **({"num_outputs": 3} if opset > 13 else {}))
    with pytest.raises(OpError, match="can't split 5 elements into 2 equal parts"):
        outputs_of("Split", x(5), opset=13, n_outputs=2)
    with pytest.raises(OpError, match="num_outputs is 3, there are 2 outputs"):
        outputs_of("Split", x(6), opset=18, n_outputs=2, num_outputs=3)
    with pytest.raises(OpError, match="names 3 parts, there are 2 outputs"):
        outputs_of("Split", x(6), ints(2, 2, 2), opset=13, n_outputs=2)


# -- results known before the run ---------------------------------------------------------


def claim(name: str, *infos: Info | None, opset: int = 19, **attributes: Any) -> Any:
    entry = lookup("", name, opset)
    assert entry.shape is not None
    return entry.shape(*[context_of(name, opset, 2)] * entry.shape_takes_ctx, *infos, **attributes)


@pytest.mark.parametrize(
    ("name", "n_more", "attributes"),
    [
        ("Reshape", 1, {}),
        ("Squeeze", 1, {}),
        ("Unsqueeze", 1, {}),
        ("Expand", 1, {}),
        ("Tile", 1, {}),
        ("Slice", 2, {}),
        ("Pad", 1, {}),
        ("Transpose", 0, {}),
        ("Flatten", 0, {}),
        ("Identity", 0, {}),
        ("Concat", 0, {"axis": 0}),
    ],
)
def test_the_dtype_is_known_even_where_the_shape_is_not(name, n_more, attributes):
    more = [Info(np.dtype(I64), (1,))] * n_more
    if more:
        assert claim(name, Info(FLOAT, (2, 3)), *more, **attributes) == Info(FLOAT, None)
    assert claim(name, Info(FLOAT, None), *more, **attributes) == Info(FLOAT, None)


def test_values_that_decide_a_shape_are_not_asked_for_in_vain():
    assert claim("Split", Info(FLOAT, (4,)), Info(np.dtype(I64), (2,))) is None
    assert claim("Split", Info(FLOAT, (4,))) == [Info(FLOAT, (2,))] * 2
    assert claim("Range", *[Info(FLOAT, ())] * 3) == Info(FLOAT, None)
    assert claim("ConstantOfShape", Info(np.dtype(I64), (2,))) == Info(FLOAT, None)
    assert claim("Shape", Info(FLOAT, None)) is None


def test_a_chain_of_shapes_folds_into_a_constant():
    text = """<ir_version: 8, opset_import: ["" : 17]> agraph (float[N, C, H] x) => (float[A, B] y) {
        shape = Shape (x)
        zero = Constant <value_int = 0> ()
        n = Gather (shape, zero)
        axes = Constant <value_ints = [0]> ()
        row = Unsqueeze (n, axes)
        rest = Constant <value_ints = [-1]> ()
        target = Concat <axis = 0> (row, rest)
        z = Reshape (x, target)
        y = Neg (z)
    }"""
    session = tinyonnx.InferenceSession(parser.parse_model(text).SerializeToString())
    for n in (2, 5):
        np.testing.assert_array_equal(session.run(None, {"x": x(n, 3, 4)})[0], -x(n, 12), strict=True)


def test_scalars_stay_arrays():
    scalar = np.array(3, F32)
    for name, inputs in [("Slice", [ints(), ints()]), ("Tile", [ints()]), ("Expand", [ints()]), ("Pad", [ints()])]:
        result = run(name, scalar, *inputs)
        assert isinstance(result, np.ndarray)
        np.testing.assert_array_equal(result, scalar, strict=True)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "message"),
    [
        ("Range", [np.array(0.0), np.array(3), np.array(1)], {}, "must be of one type"),
        ("Range", [ints(0, 1), np.array(3), np.array(1)], {}, "must be scalars"),
        ("Range", [np.array(0.0), np.array(np.inf), np.array(1.0)], {}, "is infinite"),
        ("Pad", [x(2), ints(1, 0), np.array(1)], {}, "constant_value must be one float32, is int64"),
        ("Pad", [x(0), ints(1, 0)], {"mode": "edge"}, "can't pad an empty axis"),
        ("Pad", [x(2, 2), ints(1, 1, 0, 0), None, ints(1, -1)], {}, "axes contain duplicates"),
        ("Trilu", [x(3)], {}, "needs at least rank 2"),
        ("Trilu", [x(3, 3), x(2)], {}, "k must be one integer"),
        ("Reshape", [x(4), np.array([2.0, 2.0])], {}, "must be a list of integers"),
        ("Reshape", [x(0, 2), ints(0, -1)], {"allowzero": 1}, "both 0 and -1"),
        ("Reshape", [x(4), ints(-2, -2)], {}, "a negative one"),
        ("Flatten", [x(2, 3)], {"axis": 3}, "axis 3 is out of range for rank 2"),
        ("Expand", [x(2), ints(-1)], {}, "negative dimension"),
        ("Slice", [x(4), ints(0, 1), ints(1)], {}, "2 starts, 1 ends"),
        ("Slice", [x(4, 4), ints(0, 1), ints(1, 2), ints(0, -2)], {}, "axes contain duplicates"),
        ("ConstantOfShape", [ints(1)], {"value": x(2)}, "value must have one element"),
    ],
)
def test_refusals_say_what_is_wrong(name, inputs, attributes, message):
    entry = lookup("", name, 19)
    with pytest.raises(OpError, match=message):
        entry.function(*[context_of(name, 19, 1)] * entry.takes_ctx, *inputs, **attributes)
