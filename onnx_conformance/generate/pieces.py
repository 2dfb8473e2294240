"""Pieces of patterns: inputs, constants, convolutions and functions with random properties."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_conformance.generate.draws import Random, broadcastable, one, whole
from onnx_conformance.generate.sized import Graphs
from onnx_conformance.generate.surround import ACTIVATIONS, drawn_attributes, since

CHANNELS = (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33)
"""Numbers of channels, those around vector lengths among them."""


class Pieces(Graphs):
    """Adds single nodes and inputs; `inputs` has the arrays that the model reads, by name."""

    def __init__(self, r: Random) -> None:
        super().__init__(int(r.integers(1 << 31)))
        self.opset = int(one(r, 13, 17, 20))
        self.inputs: dict[str, Any] = {}

    def given(self, *shape: int) -> str:
        """Add an input of normal numbers."""
        name = f"x{len(self.inputs)}"
        self.inputs[name] = self.random.standard_normal(shape).astype(np.float32)
        return name

    def image(self) -> tuple[str, int]:
        """Add an image as input and return its number of channels."""
        channels = int(one(self.random, *CHANNELS))
        height, width = (int(one(self.random, *range(1, 10), 15, 17)) for _ in range(2))
        return self.given(int(whole(self.random, 1, 2)), channels, height, width), channels

    def number(self, value: float, near: float = 0.2) -> str:
        """Add a constant number, one in five times another than `value`."""
        if self.random.random() < near:
            value = float(one(self.random, -value, 2 * value, value + 1, value * 1.02, 1 / value))
        return self.constant(np.full([1] * int(whole(self.random, 0, 2)), value, np.float32))

    def either(self, op: str, a: str, b: str) -> str:
        """Add a node of two operands in any order."""
        return self.add(op, *((a, b) if self.flip() else (b, a)))

    def times(self, x: str, factor: float, near: float = 0.2) -> str:
        """Multiply by a number, in either order, or divide by its reciprocal; rarely by the number itself."""
        match self.random.integers(8):
            case 0:
                return self.add("Div", x, self.number(factor, near))
            case 1 | 2:
                return self.add("Div", x, self.number(1 / factor, near))
            case _:
                return self.either("Mul", x, self.number(factor, near))

    def bias(self, *shape: int) -> str:
        """Add a constant to be added to a result of this shape: one number for each index of the last axis.

        Every third one has any shape that broadcasts.
        """
        wide = broadcastable(self.random, list(shape)) if self.random.random() < 1 / 3 else shape[-1:]
        return self.constant(self.random.standard_normal(wide).astype(np.float32))

    def conv(self, x: str, channels: int, out: int, size: int = 1, group: int = 1, **attributes: Any) -> str:
        """Add a convolution that keeps the size of the image unless it has strides."""
        weights = [self.normal(out, channels // group, size, size)]
        if self.flip():
            weights.append(self.normal(out))
        geometry: dict[str, Any] = {"group": group, "pads": [size // 2] * 4} | attributes
        return self.add("Conv", x, *weights, **geometry)

    def activation(self, x: str) -> str:
        """Add a function of one number, its attributes at their defaults or beside."""
        op = one(self.random, *(name for name in ACTIVATIONS if since(name) <= self.opset), "Clip")
        if op == "Clip":
            low, high = np.sort(self.random.standard_normal(2)).astype(np.float32)
            bounds = one(self.random, (low, high), (low, None), (None, high), (np.float32(0), np.float32(6)))
            return self.add("Clip", x, *("" if bound is None else self.constant(bound) for bound in bounds))
        return self.add(op, x, **drawn_attributes(self.random, op))

    def mean(self, x: str, *axes: int) -> str:
        """Add a ReduceMean that keeps the axes."""
        if self.opset < 18:
            return self.add("ReduceMean", x, axes=list(axes), keepdims=1)
        return self.add("ReduceMean", x, self.ints(*axes), keepdims=1)
