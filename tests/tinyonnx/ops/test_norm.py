from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import helper, numpy_helper

import tinyonnx
from tests.tinyonnx.ops import running
from tests.tinyonnx.ops.running import check_against_onnxruntime, check_refused, normal, outputs_of, run
from tinyonnx.errors import OpError
from tinyonnx.ops import norm


def batch_norm_inputs(*shape: int, statistics: tuple[int, ...] | None = None) -> list[Any]:
    size = shape[1:2] if statistics is None else statistics
    return [normal(*shape), *(normal(*size, seed=s) for s in (1, 2, 3)), np.abs(normal(*size, seed=4)) + 0.1]


@pytest.mark.parametrize("name", running.names_of(norm))
def test_backend_cases(name: str) -> None:
    running.check_backend_cases(name)


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5), (2, 3, 2, 2, 2)])
def test_batch_norm_like_onnxruntime(opset: int, shape: tuple[int, ...]) -> None:
    check_against_onnxruntime(
        "BatchNormalization", *batch_norm_inputs(*shape), opset=opset, epsilon=1e-2, rtol=1e-5, atol=1e-5
    )


def test_batch_norm_of_a_vector_has_one_channel() -> None:
    x, scale, b, mean, var = batch_norm_inputs(5, statistics=(1,))
    expected = (x - mean) / np.sqrt(var + 1e-5) * scale + b
    np.testing.assert_allclose(run("BatchNormalization", x, scale, b, mean, var), expected, rtol=1e-5)


def test_batch_norm_legacy_modes() -> None:
    inputs = batch_norm_inputs(4, 3, 2)
    expected = run("BatchNormalization", *inputs, opset=15)
    for opset, attributes in ((1, {"consumed_inputs": [0, 0, 0, 1, 1]}), (6, {}), (6, {"is_test": 1}), (7, {})):
        np.testing.assert_equal(run("BatchNormalization", *inputs, opset=opset, **attributes), expected)
    x, scale, b, mean, var = batch_norm_inputs(4, 3, 2, statistics=(3, 2))
    for opset in (6, 7):
        y = run("BatchNormalization", x, scale, b, mean, var, opset=opset, spatial=0)
        np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5) * scale + b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [6, 7, 9])
def test_batch_norm_trains_where_its_other_outputs_are_wanted(opset: int) -> None:
    inputs = batch_norm_inputs(4, 3, 2)
    y, mean, var, saved_mean, saved_var = outputs_of("BatchNormalization", *inputs, opset=opset, n_outputs=5)
    expected = outputs_of("BatchNormalization", *inputs, opset=15, n_outputs=3, training_mode=1)
    for output, reference in zip((y, mean, var), expected, strict=True):
        np.testing.assert_equal(output, reference)
    np.testing.assert_allclose(saved_mean, inputs[0].mean((0, 2)), rtol=1e-5)
    np.testing.assert_allclose(saved_var, inputs[0].var((0, 2)), rtol=1e-5)


def test_batch_norm_trains_per_feature() -> None:
    inputs = batch_norm_inputs(4, 3, 2, statistics=(3, 2))
    outputs = outputs_of("BatchNormalization", *inputs, opset=7, n_outputs=5, spatial=0)
    np.testing.assert_allclose(outputs[3], inputs[0].mean(0), rtol=1e-5)
    np.testing.assert_allclose(outputs[2], inputs[4] * 0.9 + inputs[0].var(0) * 0.1, rtol=1e-5)


def test_batch_norm_mixes_types() -> None:
    x, scale, b, mean, var = batch_norm_inputs(2, 3, 4)
    half = x.astype(np.float16)
    y = run("BatchNormalization", half, scale, b, mean, var, opset=15)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y, run("BatchNormalization", x, scale, b, mean, var), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("opset", [6, 22])
def test_instance_norm_like_onnxruntime(opset: int) -> None:
    for shape in ((2, 3, 7), (2, 3, 4, 5)):
        check_against_onnxruntime(
            "InstanceNormalization",
            normal(*shape) + 3,
            normal(3, seed=1),
            normal(3, seed=2),
            opset=opset,
            rtol=1e-4,
            atol=1e-5,
        )


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_layer_norm_like_onnxruntime(axis: int) -> None:
    x = normal(2, 3, 4) + 3
    scale, b = normal(*x.shape[axis:], seed=1), normal(*x.shape[axis:], seed=2)
    for inputs in ((x, scale), (x, scale, b)):
        check_against_onnxruntime("LayerNormalization", *inputs, opset=17, n_outputs=3, axis=axis, rtol=1e-4, atol=1e-5)


def test_group_norm_per_group_and_per_channel() -> None:
    x, scale, bias = normal(2, 6, 3, 2) + 2, normal(6, seed=1), normal(6, seed=2)
    check_against_onnxruntime("GroupNormalization", x, scale, bias, opset=21, num_groups=3, rtol=1e-4, atol=1e-5)
    check_against_onnxruntime(
        "GroupNormalization", x, scale[:3], bias[:3], opset=18, num_groups=3, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_lrn_like_onnxruntime(size: int) -> None:
    for opset in (1, 13):
        if size % 2:
            check_against_onnxruntime(
                "LRN", normal(2, 5, 3, 2) * 9, opset=opset, size=size, alpha=0.1, bias=2.0, rtol=1e-5
            )
    x = normal(1, 5, 2) * 9
    around = [sum(x[:, i] ** 2 for i in range(5) if c - (size - 1) // 2 <= i <= c + size // 2) for c in range(5)]
    expected = x / (1.5 + 0.1 / size * np.stack(around, 1)) ** 0.75
    np.testing.assert_allclose(run("LRN", x, size=size, alpha=0.1, bias=1.5), expected, rtol=1e-5)


@pytest.mark.parametrize("p", [1, 2])
def test_lp_norm_like_onnxruntime(p: int) -> None:
    x = normal(3, 4, 5)
    x[:, 1] = 0
    for axis in (0, 1, -1):
        check_against_onnxruntime("LpNormalization", x, opset=1, axis=axis, p=p, rtol=1e-5)


def test_mean_variance_like_onnxruntime() -> None:
    x = normal(2, 3, 4, 5) + 1
    for attributes in ({}, {"axes": [2, 3]}):
        check_against_onnxruntime("MeanVarianceNormalization", x, opset=9, rtol=1e-4, atol=1e-5, **attributes)


def test_dropout_keeps_everything_at_inference() -> None:
    x = normal(2, 3)
    for opset in (1, 6, 7, 10, 12, 13, 22):
        y, mask = outputs_of("Dropout", x, opset=opset, n_outputs=2)
        np.testing.assert_equal(y, x)
        assert mask.all()
        assert mask.dtype == (bool if opset >= 10 else np.float32)
    y, mask = outputs_of("Dropout", x, np.array(0.5, np.float32), np.array(True), opset=13, n_outputs=2, seed=3)
    np.testing.assert_equal(y, np.where(mask, x * 2, 0))
    assert 0 < mask.sum() < mask.size


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize(
    ("name", "sizes", "attributes"),
    [
        ("BatchNormalization", [3, 3, 3, 3], {}),
        ("InstanceNormalization", [3, 3], {}),
        ("LayerNormalization", [5, 5], {}),
        ("GroupNormalization", [3, 3], {"num_groups": 3}),
        ("RMSNormalization", [5], {}),
        ("LRN", [], {"size": 3}),
        ("LpNormalization", [], {}),
        ("MeanVarianceNormalization", [], {}),
    ],
)
def test_other_floats(name: str, sizes: list[int], attributes: dict[str, int], dtype: type) -> None:
    inputs = [normal(2, 3, 4, 5), *(np.abs(normal(n, seed=n)) for n in sizes)]
    y = run(name, *(i.astype(dtype) for i in inputs), opset=23, **attributes)
    assert y.dtype == dtype
    expected = run(name, *inputs, opset=23, **attributes)
    tolerance = 1e-5 if dtype == np.float64 else 5e-2
    np.testing.assert_allclose(y.astype(np.float64), expected, rtol=tolerance, atol=tolerance)
    nothing = [i.astype(dtype) for i in (inputs[0][:0], *inputs[1:])]
    assert run(name, *nothing, opset=23, **attributes).shape == (0, 3, 4, 5)


@pytest.mark.parametrize(
    ("name", "opset", "shapes", "attributes", "message"),
    [
        ("BatchNormalization", 15, [(1, 16, 4), (24,), (16,), (16,), (16,)], {}, r"scale has shape \(24,\), X of"),
        ("InstanceNormalization", 22, [(1, 3, 4), (3,), (4,)], {}, r"B has shape \(4,\)"),
        ("InstanceNormalization", 22, [(1, 3), (3,), (3,)], {}, "at least one more axis"),
        ("GroupNormalization", 21, [(1, 4, 2), (4,), (4,)], {"num_groups": 3}, "divided into 3 groups"),
        ("GroupNormalization", 21, [(1, 4, 2), (4,), (4,)], {"num_groups": 0}, "divided into 0 groups"),
        ("GroupNormalization", 18, [(1, 4, 2), (4,), (4,)], {"num_groups": 2}, r"needs \(2,\)"),
        ("LayerNormalization", 17, [(2, 3), (4,)], {}, r"Scale of shape \(4,\) doesn't broadcast to \(2, 3\)"),
        ("LayerNormalization", 17, [(2, 3), (3,)], {"axis": 2}, "axis 2 is out of range"),
        ("LayerNormalization", 17, [(2, 3), (3,)], {"stash_type": 7}, "stash_type is 7"),
        ("RMSNormalization", 23, [(2, 3), (5, 2, 3)], {}, "doesn't broadcast"),
        ("LpNormalization", 22, [(2, 3)], {"axis": 5}, "axis 5 is out of range"),
        ("MeanVarianceNormalization", 13, [(2, 3)], {}, "axis 2 is out of range"),
    ],
)
def test_refusals(
    name: str, opset: int, shapes: list[tuple[int, ...]], attributes: dict[str, int], message: str
) -> None:
    check_refused(name, opset, shapes, attributes, message)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "message"),
    [
        ("LRN", [normal(2, 3)], {"size": 0}, "size is 0"),
        ("LRN", [normal(2)], {"size": 3}, "needs a batch and channels"),
        ("LpNormalization", [normal(2, 3)], {"p": 3}, "p is 3"),
        ("Dropout", [normal(2), np.array(1.0), np.array(True)], {}, "ratio is 1.0"),
    ],
)
def test_refused_values(name: str, inputs: list[Any], attributes: dict[str, int], message: str) -> None:
    with pytest.raises(OpError, match=message):
        run(name, *inputs, **attributes)


@pytest.mark.parametrize("shape", [(1, 1, 4), (2, 1, 4), (2, 3, 1), (1, 1, 1), (4,), (3, 1)])
@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
@pytest.mark.parametrize("axis", [-1, 1])
def test_constant_scales_with_axes_that_are_not_normalised(shape: tuple[int, ...], op: str, axis: int) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    scale = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    node = helper.make_node(op, ["x", "scale"], ["y"], axis=axis)
    value = [helper.make_tensor_value_info(name, 1, [2, 3, 4]) for name in "xy"]
    graph = helper.make_graph([node], "g", value[:1], value[1:], [numpy_helper.from_array(scale, "scale")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10).SerializeToString()
    axes = tuple(range(axis % 3, 3))
    centred = x - (x.mean(axes, keepdims=True) if op == "LayerNormalization" else 0)
    expected = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + 1e-5) * scale
    (y,) = tinyonnx.InferenceSession(model).run(None, {"x": x})
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
