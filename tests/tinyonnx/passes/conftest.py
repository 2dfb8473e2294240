"""Run the pipeline on models written as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx.parser
import onnxruntime
import pytest

import tinyonnx
from tinyonnx.ir import Graph
from tinyonnx.ort import preparation
from tinyonnx.passes import Remark
from tinyonnx.passes.widen_float16 import widen_float16
from tinyonnx.runtime import decisions


@dataclass
class Optimised:
    """An optimised graph, the remarks of the passes, and the difference from onnxruntime."""

    graph: Graph
    remarks: list[Remark]
    error: float

    @property
    def ops(self) -> Counter[str]:
        return Counter(node.op_type for node in self.graph.nodes)

    def assert_without(self, op: str, tolerance: float) -> None:
        """Check that no node has this operator, and that the results are right."""
        assert op not in self.ops
        assert self.error < tolerance

    def refused(self, reason: str) -> bool:
        """Return whether a remark gives this reason for leaving a node as it is."""
        return any(reason in refusal for refusal in self.refusals())

    def applied(self, text: str) -> int:
        """Return the number of remarks with this text about rewrites."""
        return sum(text in remark.text for remark in self.remarks if remark.applied)

    def refusals(self) -> list[str]:
        return [str(r) for r in self.remarks if not r.applied]


@pytest.fixture
def optimise(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Optimised]:
    """Parse, optimise for the shapes of the feeds, run, and compare with onnxruntime's unoptimised answer.

    `expected` takes the place of onnxruntime's answer where it can't run the model.
    """
    # an If on a fed value keeps its branches, which the passes must respect
    monkeypatch.setattr(decisions, "VALUES_KEPT", 0)

    def run(text: str, expected: list[np.ndarray] | None = None, **feeds: np.ndarray) -> Optimised:
        model = onnx.parser.parse_model(text)
        onnx.checker.check_model(model)
        session = tinyonnx.InferenceSession(model.SerializeToString())
        if expected is None:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            expected = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feeds)
        actual = session.run(None, feeds)
        error = 0.0
        for a, b in zip(actual, expected, strict=True):
            assert a.shape == b.shape
            assert a.dtype == b.dtype
            finite = np.isfinite(b)
            np.testing.assert_array_equal(a[~finite], b[~finite])
            error = max(error, float(np.abs(a[finite].astype(np.float64) - b[finite]).max(initial=0)))
        plan = session.plan_for(None, feeds)
        return Optimised(plan.graph, plan.remarks, error)

    return run


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave float16 as it is, so that the other passes meet it."""
    monkeypatch.setattr(preparation, "PIPELINE", [each for each in preparation.PIPELINE if each is not widen_float16])


def unoptimised(text: str, **feeds: np.ndarray) -> list[np.ndarray]:
    """Return the results of the model's own nodes in numpy, for models that onnxruntime refuses."""
    options = tinyonnx.SessionOptions()
    options.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    return tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString(), options).run(None, feeds)


def model_text(body: str, inputs: str, outputs: str, initializers: str = "", opset: int = 17) -> str:
    """Return a model in onnx's textual syntax around a few nodes."""
    weights = f"<{initializers}>" if initializers else ""
    return f'<ir_version: 8, opset_import: ["" : {opset}]> test ({inputs}) => ({outputs}) {weights} {{ {body} }}'


def floats(name: str, *shape: int, seed: int = 0, positive: bool = False) -> str:
    """Return a random float initializer as text."""
    values = np.random.default_rng(seed + sum(map(ord, name))).standard_normal(shape).astype(np.float32)
    if positive:
        values = np.abs(values) + 0.5
    numbers = ", ".join(f"{v:.6f}" for v in values.reshape(-1))
    return f"float[{', '.join(map(str, shape))}] {name} = {{{numbers}}}"


def numbers(n: int, seed: int | None = None) -> str:
    """Return random numbers as the content of an initializer."""
    return "{" + ", ".join(f"{v:.3f}" for v in np.random.default_rng(n if seed is None else seed).normal(size=n)) + "}"


def data(*shape: int, seed: int = 0) -> np.ndarray:
    """Return random float32 input."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
