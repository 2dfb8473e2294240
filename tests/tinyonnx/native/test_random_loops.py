"""Random graphs of nested If, Loop and Scan: native plans give the session's bits, for many numbers of iterations."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import tinyonnx
from tests.tinyonnx.runtime.native_plans import NativePlan
from tinyonnx.codegen.kernel import DISABLED
from tinyonnx.native.model import CompileError
from tinyonnx.runtime.plan import LoopStart

pytestmark = pytest.mark.skipif(DISABLED, reason="tables of steps need machine code")

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL

MOST_LEVELS = 3

CONSTANTS = {
    "weights": np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32) / 2,
    "third": np.float32(0.3), "yes": np.bool_(True), "zero": np.int64(0), "two": np.int64(2), "five": np.int64(5),
}  # fmt: skip


class Generator:
    """Graphs of [rows, 4] tensors: `available` are those that a new node may read."""

    def __init__(self, seed: int) -> None:
        self.random, self.count = random.Random(seed), 0
        self.rows = self.random.choice([1, 3, 5])
        self.outputs: list[str] = []

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def add(self, nodes: list[Any], op: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [self.name()], **attributes))
        return str(nodes[-1].output[0])

    def some(self, nodes: list[Any], available: list[str], most: int, number: str = "") -> None:
        """Add a few nodes that keep the shape."""
        pick = self.random.choice
        for _ in range(self.random.randint(1, most)):
            a, kind = pick(available[-4:]), pick(["unary", "binary", "MatMul", "Softmax", "mean", "sum", "number"])
            if kind == "unary":
                found = self.add(nodes, pick(["Relu", "Neg", "Tanh", "Sigmoid"]), a)
            elif kind == "binary":
                found = self.add(nodes, pick(["Add", "Sub", "Mul", "Max"]), a, pick([*available, "third"]))
            elif kind == "MatMul":
                found = self.add(nodes, kind, a, "weights")
            elif kind == "Softmax":
                found = self.add(nodes, kind, a, axis=-1)
            elif kind == "mean":
                found = self.add(nodes, "Sub", a, self.add(nodes, "ReduceMean", a, axes=[-1]))
            elif kind == "sum":
                found = self.add(nodes, "CumSum", a, "zero")
            else:
                found = self.add(nodes, "Add", a, self.add(nodes, "Cast", number, to=FLOAT) if number else "third")
            available.append(found)

    def less(self, nodes: list[Any], value: str) -> str:
        return self.add(nodes, "Less", self.add(nodes, "ReduceMean", value, keepdims=0), "third")

    def body(self, nodes: list[Any], inputs: dict[str, Any], outputs: list[tuple[str, int]]) -> Any:
        given = [helper.make_tensor_value_info(name, kind, None) for name, kind in inputs.items()]
        return helper.make_graph(
            nodes, self.name(), given, [helper.make_tensor_value_info(n, t, None) for n, t in outputs]
        )

    def nested(self, nodes: list[Any], available: list[str], level: int) -> None:
        """Add an If, Loop or Scan, and sometimes others within it."""
        kind = self.random.choice(["If", "Loop", "Loop", "Scan"])
        available.append(getattr(self, kind.lower() + "_")(nodes, available, level))

    def inner(self, nodes: list[Any], available: list[str], level: int, number: str = "") -> None:
        self.some(nodes, available, 3, number)
        if level < MOST_LEVELS and self.random.random() < 0.5:
            self.nested(nodes, available, level + 1)
            self.some(nodes, available, 1, number)

    def if_(self, nodes: list[Any], available: list[str], level: int) -> str:
        branches = []
        for _ in range(2):
            own: list[Any] = []
            known = available.copy()
            self.inner(own, known, level)
            branches.append(self.body(own, {}, [(self.add(own, "Identity", known[-1]), FLOAT)]))
        condition = self.less(nodes, available[-1])
        return self.add(nodes, "If", condition, then_branch=branches[0], else_branch=branches[1])

    def loop_(self, nodes: list[Any], available: list[str], level: int) -> str:
        pick, own = self.random.choice, []
        number, flag = self.name(), self.name()
        carried = [self.name() for _ in range(pick([1, 1, 2, 3]))]
        known = [*available, *carried]
        self.inner(own, known, level, number)
        # as they are, rotated, or computed
        following = carried[1:] + carried[:1] if pick([True, False, False]) else known[-len(carried) :]
        following = [self.add(own, "Identity", name) if name not in carried else name for name in following]
        trips = pick(["trips", "trips", "two", "five", "zero"])
        always = pick([True, False])
        again = pick([flag, self.add(own, "Identity", "yes")]) if always else self.less(own, known[-1])
        stacked = []
        if always and trips in ("two", "five") and level == 1:
            stacked = [self.add(own, "Identity", known[-1]), self.add(own, "ReduceSum", known[-2], keepdims=0)]
        inputs = {number: INT, flag: BOOL} | dict.fromkeys(carried, FLOAT)
        body = self.body(own, inputs, [(again, BOOL), *((name, FLOAT) for name in (*following, *stacked))])
        results = [self.name() for _ in (*carried, *stacked)]
        first = [pick(available) for _ in carried]
        begun = "" if stacked else pick(["", "yes", "flag"])
        nodes.append(helper.make_node("Loop", [trips, begun, *first], results, body=body))
        if level == 1:
            self.outputs += results[1:]
        return results[0]

    def scan_(self, nodes: list[Any], available: list[str], level: int) -> str:
        pick, own = self.random.choice, []
        state, item, axis = self.name(), self.name(), pick([0, 1, -1])
        added = self.add(own, pick(["Add", "Mul"]), state, item)
        mean = self.add(own, "ReduceMean", pick(available), keepdims=0)
        following, given = self.add(own, "Tanh", added), self.add(own, "Sub", added, mean)
        body = self.body(own, {state: FLOAT, item: FLOAT}, [(following, FLOAT), (given, FLOAT)])
        first = self.add(nodes, "ReduceMax", pick(available), axes=[axis], keepdims=0)
        results = [self.name(), self.name()]
        directions = {f"scan_{kind}_directions": [pick([0, 1])] for kind in ("input", "output")}
        axes = {f"scan_{kind}_axes": [axis] for kind in ("input", "output")}
        nodes.append(
            helper.make_node(
                "Scan", [first, available[-1]], results, body=body, num_scan_inputs=1, **axes, **directions
            )
        )
        if level == 1:
            self.outputs.append(results[0])
        return results[1]

    def content(self) -> bytes:
        nodes: list[Any] = []
        available = ["x", "u"]
        for _ in range(2):
            self.nested(nodes, available, 1)
            self.some(nodes, available, 2)
        inputs = [helper.make_tensor_value_info(name, FLOAT, [self.rows, 4]) for name in ("x", "u")]
        inputs += [helper.make_tensor_value_info("trips", INT, []), helper.make_tensor_value_info("flag", BOOL, [])]
        outputs = [onnx.ValueInfoProto(name=name) for name in (available[-1], *self.outputs)]
        constants = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in CONSTANTS.items()]
        model = helper.make_model(
            helper.make_graph(nodes, "g", inputs, outputs, constants), opset_imports=[helper.make_opsetid("", 12)]
        )
        model.ir_version = 8
        content: bytes = model.SerializeToString()
        return content


@pytest.mark.parametrize("first", range(0, 100, 20))
def test_native_plans_give_the_sessions_bits(first: int) -> None:
    compared = 0
    for seed in range(first, first + 20):
        generator = Generator(seed)
        content = generator.content()
        session = tinyonnx.InferenceSession(content)
        rng = np.random.default_rng(seed)
        numbers = {name: rng.standard_normal((generator.rows, 4)).astype(np.float32) for name in ("x", "u")}
        feeds = numbers | {"trips": np.array(1), "flag": np.array(True)}
        try:
            native = NativePlan(content, feeds)
        except CompileError as error:
            assert "depend" in str(error) or "levels" in str(error)  # noqa: PT017  # nothing else may be refused
            continue
        compared += any(isinstance(step, LoopStart) for step in native.plan.steps)
        for trips, flag in ((3, True), (0, True), (1, False), (20, True), (-1, True), (2, True)):
            feeds |= {"trips": np.array(trips), "flag": np.array(flag)}
            found, expected = native.run(feeds), session.run(None, feeds)
            assert found is not None
            for a, b in zip(found, expected, strict=True):
                assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), (seed, trips, flag)
    assert compared >= 5
