"""Every layer of a model against onnx.reference.

A layer is one node of the optimised plan. A fused node keeps the output name of the last
node that it replaced, so that its result has a counterpart of the same name among the
reference's intermediate results.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from conformance import ConformanceError
from tinyonnx import InferenceSession, Node, NodeArg
from tinyonnx.dtypes import from_onnx_type
from tinyonnx.ir import Array

TOLERANCE = 1e-4
"""Greatest error of a layer relative to its scale that counts as equal."""

SYMBOLIC_SIZE = 256
"""What a symbolic dimension becomes, unless it is the first (batch: 1)."""


@dataclass(frozen=True)
class Layer:
    """One compared layer: `origin` lists the ops that a fused node replaced.

    `error` is the greatest absolute difference, `relative` the same in units of the
    layer's scale (the reference's greatest magnitude); `problem` says what can't be
    put in numbers.
    """

    name: str
    op: str
    origin: tuple[str, ...]
    shape: tuple[int, ...]
    error: float
    relative: float
    problem: str = ""

    def within(self, tolerance: float) -> bool:
        """Whether the layer equals the reference's."""
        return not self.problem and self.relative <= tolerance

    @property
    def title(self) -> str:
        """The op, and what it was made of."""
        return f"{self.op} = {' + '.join(self.origin)}" if len(self.origin) > 1 else self.op


@dataclass(frozen=True)
class Comparison:
    """The layers in the order in which they ran, and the names that the reference doesn't have."""

    layers: list[Layer]
    unmatched: list[str]

    @property
    def worst(self) -> Layer:
        """The layer with the greatest relative error; one with a problem is worse than any number."""
        return max(self.layers, key=lambda layer: (bool(layer.problem), layer.relative))

    def first_over(self, tolerance: float) -> Layer | None:
        """The first layer that differs: the later ones may only have inherited its error."""
        return next((layer for layer in self.layers if not layer.within(tolerance)), None)


def compare_layers(session: InferenceSession, source: str | bytes, feeds: Mapping[str, Array]) -> Comparison:
    """Run a model here and in onnx.reference, and compare every layer and output.

    `source` is the path or content that `session` was loaded from. Raises ConformanceError
    if the reference can't run it or if nothing could be compared, and what `session.run` raises.
    """
    reference = reference_values(source, feeds)
    ops = {node.label: node.op_type for node in session.graph.nodes}
    layers: list[Layer] = []
    unmatched: list[str] = []

    def compare(name: str, op: str, origin: tuple[str, ...], result: Any) -> None:
        if name in reference:
            layers.append(_compare(name, op, origin, result, reference[name]))
        else:
            unmatched.append(name)

    def hook(node: Node, outputs: list[Any]) -> None:
        origin = tuple(ops.get(name, name) for name in node.origin)
        for value, result in zip(node.outputs, outputs):
            if value is not None:
                compare(value.name, node.op_type, origin, result)

    results = session.run_with_hook(feeds, hook)
    seen = {layer.name for layer in layers}
    for arg, result in zip(session.get_outputs(), results, strict=True):
        if arg.name not in seen:
            compare(arg.name, "(output)", (), result)
    if not layers:
        raise ConformanceError(f"{_name(source)}: no layer has a counterpart in onnx.reference")
    return Comparison(layers, unmatched)


def reference_values(source: str | bytes, feeds: Mapping[str, Array]) -> dict[str, Any]:
    """All intermediate results and outputs of a model in onnx.reference, by name.

    Raises ConformanceError if it can't run the model.
    """
    try:
        model = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(source)
        evaluator = ReferenceEvaluator(model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = evaluator.run(None, dict(feeds), intermediate=True)
    except Exception as error:  # an oracle may fail in any way
        raise ConformanceError(f"{_name(source)}: onnx.reference can't run it: {error!r}") from error
    assert isinstance(values, dict)
    return {name: value for name, value in values.items() if name and value is not None}


def _name(source: str | bytes) -> str:
    return "<bytes>" if isinstance(source, bytes) else source


def seeded_feeds(inputs: Sequence[NodeArg], dims: Mapping[str, int] | None = None, seed: int = 0) -> dict[str, Array]:
    """Noise in the inputs' shapes: normal for floats, 0 or 1 for integers and bools.

    `dims` sets symbolic dimensions by name; the first dimension of an input becomes 1
    otherwise, any other `SYMBOLIC_SIZE`. Raises ConformanceError for inputs that aren't
    tensors of numbers.
    """
    rng = np.random.default_rng(seed)
    given = dims or {}
    feeds: dict[str, Array] = {}
    for arg in inputs:
        dtype = from_onnx_type(arg.type) if arg.type.startswith("tensor(") else None
        if dtype is None or dtype.kind not in "fiub":
            raise ConformanceError(f'input "{arg.name}" is a {arg.type}: only tensors of numbers can be made up')
        shape = [
            dim if isinstance(dim, int) else given.get(str(dim), 1 if axis == 0 else SYMBOLIC_SIZE)
            for axis, dim in enumerate(arg.shape)
        ]
        noise = rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(0, 2, shape)
        feeds[arg.name] = noise.astype(dtype)
    return feeds


def difference(ours: Array, reference: Array) -> tuple[float, float]:
    """Greatest absolute difference of two arrays of one shape, and the same relative to the scale.

    The scale is the reference's greatest finite magnitude (1 where that is 0). Both are
    infinite if NaN and infinities don't stand in the same places.
    """
    if ours.size == 0:
        return 0.0, 0.0
    wide = np.complex128 if reference.dtype.kind == "c" else np.float64
    a, b = ours.astype(wide), reference.astype(wide)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return np.inf, np.inf
    error = float(np.abs(a[finite] - b[finite]).max(initial=0.0))
    return error, error / (float(np.abs(b[finite]).max(initial=0.0)) or 1.0)


def _compare(name: str, op: str, origin: tuple[str, ...], ours: Any, reference: Any) -> Layer:
    shape = tuple(getattr(ours, "shape", ()))

    def layer(error: float, relative: float, problem: str = "") -> Layer:
        return Layer(name, op, origin, shape, error, relative, problem)

    if not isinstance(ours, np.ndarray) or ours.dtype.kind not in "fiubc":
        return layer(0.0, 0.0) if _same(ours, reference) else layer(np.inf, np.inf, "differs from the reference")
    theirs = np.asarray(reference)
    if (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
        wanted = f"{theirs.dtype}{list(theirs.shape)}"
        return layer(np.inf, np.inf, f"is {ours.dtype}{list(ours.shape)}, the reference's {wanted}")
    return layer(*difference(ours, theirs))


def _same(ours: Any, reference: Any) -> bool:
    """Equality of what has no distance: strings, sequences, optional values."""
    if isinstance(ours, list) and isinstance(reference, list):
        return len(ours) == len(reference) and all(map(_same, ours, reference))
    return np.array_equal(ours, reference)


def table(comparison: Comparison, tolerance: float) -> str:
    """One line a layer: name, op, shape, greatest error, the same relative to the layer's scale."""
    rows = [("layer", "op", "shape", "max |Δ|", "relative", "")]
    for layer in comparison.layers:
        verdict = layer.problem or ("" if layer.within(tolerance) else "OVER")
        shape = "×".join(map(str, layer.shape)) or "scalar"
        rows.append((layer.name, layer.title, shape, f"{layer.error:.1e}", f"{layer.relative:.1e}", verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join("  ".join([*map(str.ljust, row[:5], widths), row[5]]).rstrip() for row in rows)
