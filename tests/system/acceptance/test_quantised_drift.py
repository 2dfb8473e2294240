"""Dynamically quantised encoders drift from ONNX Runtime no further than ONNX Runtime from itself.

A rounding to the next integer that falls on the other side changes an activation by a whole quantum, and each layer
multiplies the number of such roundings. So results are compared with those of ONNX Runtime for inputs that differ as
much as sums in another order do.
"""

from __future__ import annotations

import numpy as np
import onnxruntime

import tinyonnx
from benchmarks.zoo._builder import Result
from benchmarks.zoo.quantised import _Bytes
from tinyonnx.ir import Array

WIDTH = 128


class Encoder(_Bytes):
    """Layers that share their weights, as in ALBERT."""

    def __init__(self) -> None:
        super().__init__()
        self._weights: dict[str, tuple[str, str, str]] = {}

    def product(self, name: str, x: str, features: int, outputs: int) -> str:
        if name not in self._weights:
            integers = self.random.integers(-127, 128, (features, outputs)).astype(np.int8)
            scale = np.float32(1 / 73 / np.sqrt(features))
            self._weights[name] = self.constant(integers), self.constant(scale), self.normal(outputs)
        integers_name, scale_name, bias = self._weights[name]
        y = self.add("DynamicQuantizeLinear", x, outputs=3)
        sums = self.add("MatMulInteger", y, integers_name, f"{y}_2", self.constant(np.int8(0)))
        scaled = self.add("Mul", self.add("Cast", sums, to=1), self.add("Mul", f"{y}_1", scale_name))
        return self.add("Add", scaled, bias)

    def layer(self, x: str) -> str:
        q, v = (self.heads(self.product(name, x, WIDTH, WIDTH), WIDTH, 4) for name in "qv")
        k = self.heads(self.product("k", x, WIDTH, WIDTH), WIDTH, 4, keys=True)
        attended = self.product("o", self.attend(q, k, v, WIDTH, 4), WIDTH, WIDTH)
        x = self.layer_norm(self.add("Add", x, attended), WIDTH)
        y = self.product("out", self.gelu(self.product("in", x, WIDTH, 4 * WIDTH)), 4 * WIDTH, WIDTH)
        return self.layer_norm(self.add("Add", x, y), WIDTH)


def test_drift_is_that_of_rounding() -> None:
    b = Encoder()
    x = "x"
    for _ in range(12):
        x = b.layer(x)
    content = b.content({"x": (np.float32, ["batch", "time", WIDTH])}, Result(x, 3))
    theirs = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    ours = tinyonnx.InferenceSession(content)
    random = np.random.default_rng(0)
    inputs = random.standard_normal((1, 40, WIDTH)).astype(np.float32)
    expected = theirs.run(None, {"x": inputs})[0]

    def distance(result: Array) -> float:
        return float(np.sqrt(np.mean((result - expected) ** 2, dtype=np.float64)))

    moved = [inputs * (1 + 1e-6 * random.standard_normal(inputs.shape).astype(np.float32)) for _ in range(5)]
    drifts = [distance(theirs.run(None, {"x": each})[0]) for each in moved]
    assert distance(ours.run(None, {"x": inputs})[0]) <= 2 * max(drifts)
