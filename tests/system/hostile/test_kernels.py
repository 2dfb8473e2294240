"""Windows of extreme geometry: kernels give the same results and errors as the plain run.

Sizes near 2**31 and 2**62, kernels larger than the input, pads that cut, any groups; limits keep the plain run small.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import tinyonnx
from tests.system.hostile.models import in_time, session

EXTREME = [2**31 - 1, 2**31, 2**32 + 1, 2**62, 2**63 - 1, -1, -(2**31), -(2**63)]
CASES = 150
OPS = ["Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"]
LIMITS = {"max_tensor_bytes": 1 << 22, "max_seconds": 5.0}


def _choose(random: np.random.Generator, usual: list[int], count: int) -> list[int]:
    """Choose a usual number in most cases, and an extreme one in the others."""
    return [int(random.choice(EXTREME if random.random() < 0.12 else usual)) for _ in range(count)]


def _node(op: str, random: np.random.Generator) -> tuple[Any, list[Any], tuple[int, ...]]:
    rank = int(random.integers(1, 4))
    channels = int(random.choice([1, 4, 16]))
    spatial = [int(random.integers(1, 9)) for _ in range(rank)]
    kernel = [int(random.choice([1, 2, 3, 3, 9])) for _ in range(rank)]
    attributes: dict[str, Any] = {}
    if random.random() < 0.6:
        attributes["strides"] = _choose(random, [1, 2, 3], rank)
    if random.random() < 0.5 and op != "LpPool":
        attributes["dilations"] = _choose(random, [1, 2, 3], rank)
    if random.random() < 0.2:
        attributes["auto_pad"] = str(random.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    elif random.random() < 0.7:
        attributes["pads"] = _choose(random, [0, 1, 2, -1, 5], 2 * rank)
    inputs, weights = ["x"], []
    if op.startswith("Conv"):
        group = int(random.choice([1, 1, channels, 2, 3, *EXTREME])) if random.random() < 0.5 else 1
        attributes["group"] = group
        per_group = channels // group if 0 < group <= channels else channels
        shape = (channels, per_group) if op == "Conv" else (channels, int(random.choice([1, 3])))
        w = random.standard_normal((*shape, *kernel)).astype(np.float32)
        weights, inputs = [numpy_helper.from_array(w, "w")], ["x", "w"]
    else:
        attributes["kernel_shape"] = _choose(random, kernel, rank)
        if op != "LpPool" and random.random() < 0.3:
            attributes["ceil_mode"] = 1
    return helper.make_node(op, inputs, ["c"], **attributes), weights, (2, channels, *spatial)


def _outcome(proto: Any, level: int, x: Any) -> Any:
    with in_time():
        try:
            return session(proto, level, **LIMITS).run(None, {"x": x})[0]
        except tinyonnx.Error as error:
            return error


@pytest.mark.parametrize("op", OPS)
def test_kernels_and_plain_runs_agree(op: str) -> None:
    random = np.random.default_rng(OPS.index(op))
    ran = 0
    for _ in range(CASES):
        node, weights, shape = _node(op, random)
        follow = helper.make_node(str(random.choice(["Relu", "Identity", "Sigmoid"])), ["c"], ["y"])
        graph = helper.make_graph(
            [node, follow],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            weights,
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
        x = random.standard_normal(shape).astype(np.float32)
        plain, fast = _outcome(proto, 0, x), _outcome(proto, 99, x)
        if isinstance(plain, tinyonnx.ResourceError):
            continue  # a kernel may do without the memory that this needs
        if isinstance(plain, tinyonnx.Error):
            assert type(fast) is type(plain), (node, fast)
            assert isinstance(plain.__cause__, tinyonnx.errors.OpError), plain
        else:
            ran += 1
            assert isinstance(fast, np.ndarray), (node, fast)
            np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-4, err_msg=str(node))
    assert ran > CASES // 10
