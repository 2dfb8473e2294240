"""Optimisers against their formulas, written down a second time for one number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from tests.tinyonnx.ops.running import context_of, normal
from tinyonnx.errors import OpError
from tinyonnx.registry import Info, lookup

DOMAIN = "ai.onnx.preview.training"


def step(name: str, rate: float, count: int, *tensors: Any, **attributes: Any) -> list[Any]:
    entry = lookup(DOMAIN, name, 1)
    context = [context_of(name, 1, 1)] * entry.takes_ctx
    inputs = [np.array(rate, np.float32), np.array(count, np.int64), *tensors]
    results = list(entry.function(*context, *inputs, **attributes))
    foreseen = entry.shape(*[Info(x.dtype, x.shape) for x in inputs], **attributes)
    assert [(y.dtype, y.shape) for y in results] == [(i.dtype, i.shape) for i in foreseen]
    return results


def reference(name: str, rate: float, count: int, *tensors: Any, n_outputs: int, **attributes: Any) -> list[Any]:
    inputs = [np.array(rate, np.float32), np.array(count, np.int64), *tensors]
    names = [f"x{i}" for i in range(len(inputs))]
    node = onnx.helper.make_node(name, names, [f"y{i}" for i in range(n_outputs)], domain=DOMAIN, **attributes)
    element = onnx.helper.np_dtype_to_tensor_dtype
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node], "g", [value(n, element(x.dtype), x.shape) for n, x in zip(names, inputs)],
        [value(f"y{i}", 1, None) for i in range(n_outputs)],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(DOMAIN, 1)])
    return list(ReferenceEvaluator(model).run(None, dict(zip(names, inputs))))


CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "Adagrad": (3, {"norm_coefficient": 0.01, "decay_factor": 0.1, "epsilon": 1e-5}),
    "Adam": (4, {"alpha": 0.95, "beta": 0.1, "norm_coefficient": 0.01, "norm_coefficient_post": 0.02}),
    "Momentum": (3, {"alpha": 0.95, "beta": 0.85, "norm_coefficient": 0.01, "mode": "standard"}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("tensors", [1, 2])
def test_against_the_reference(name: str, count: int, tensors: int) -> None:
    size, attributes = CASES[name]
    shapes = [(2, 3), (4,)][:tensors]
    inputs = [abs(normal(*shape, seed=10 * g + i)) for g in range(size) for i, shape in enumerate(shapes)]
    modes = [{}, {"mode": "nesterov"}] if name == "Momentum" else [{}]
    for mode in modes:
        ours = step(name, 0.1, count, *inputs, **attributes | mode)
        expected = reference(name, 0.1, count, *inputs, n_outputs=(size - 1) * tensors, **attributes | mode)
        for a, b in zip(ours, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)


def test_adam_by_hand() -> None:
    x, g, v, h = (np.array(n) for n in (1.5, 0.3, 0.2, 0.4))
    new_x, new_v, new_h = step("Adam", 0.1, 3, x, g, v, h, alpha=0.9, beta=0.8, epsilon=0.01)
    assert new_v == pytest.approx(0.9 * 0.2 + 0.1 * 0.3)
    assert new_h == pytest.approx(0.8 * 0.4 + 0.2 * 0.09)
    rate = float(np.float32(0.1)) * math.sqrt(1 - 0.8**3) / (1 - 0.9**3)
    assert new_x == pytest.approx(1.5 - rate * float(new_v) / (math.sqrt(float(new_h)) + 0.01))


def test_misuse() -> None:
    x = np.ones(2, np.float32)
    with pytest.raises(OpError, match="multiple of 3"):
        step("Adagrad", 0.1, 0, x, x)
    with pytest.raises(OpError, match="shapes"):
        step("Adagrad", 0.1, 0, x, np.ones(3, np.float32), x)
    with pytest.raises(OpError, match="sideways"):
        step("Momentum", 0.1, 0, x, x, x, alpha=1.0, beta=1.0, norm_coefficient=0.0, mode="sideways")
