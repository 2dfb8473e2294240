"""Compare two runs of a model layer by layer and find where they diverge.

A layer is a node of the plan. A fused node keeps the output name of the last node that it replaced, so that its result
has a counterpart of the same name where the file's own nodes run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinyonnx.errors import InputError
from tinyonnx.ir import Array, Node
from tinyonnx.ort.options import GraphOptimizationLevel, SessionOptions
from tinyonnx.ort.session import InferenceSession

TOLERANCE = 1e-4
"""Greatest error of a layer, relative to its scale, that counts as equal."""

_LARGEST_QUANTUM = 0.2
"""Largest quantisation step, relative to the scale of its layer, by which later layers may differ."""

_ROUNDING = ("QLinear", "Quantize", "QGemm", "ByteTable")
"""Prefixes of the names of operators that round to bytes."""

Values = Mapping[str, Any]
"""The other side's tensors by name."""


@dataclass(frozen=True)
class LayerComparison:
    """One compared layer.

    Attributes:
        origin: operators that a fused node replaced.
        error: greatest absolute difference.
        relative: the same in units of the other side's greatest magnitude.
        ulp: greatest distance in representable numbers of the type.
        cosine: similarity of both as vectors.
        problem: a difference that has no number, such as another shape.
        quantised: the relative error that rounding to bytes explains. Bytes may differ by one quantum, because sums of
            bytes are exact and those of floats are rounded; results behind such bytes may differ as much.
    """

    name: str
    op: str
    origin: tuple[str, ...]
    shape: tuple[int, ...]
    error: float = 0.0
    relative: float = 0.0
    ulp: int = 0
    cosine: float = 1.0
    problem: str = ""
    quantised: float = 0.0

    def within(self, tolerance: float) -> bool:
        """Return whether the layer equals the other side's up to the tolerance, or what rounding to bytes explains."""
        return not self.problem and self.relative <= max(tolerance, self.quantised)

    @property
    def title(self) -> str:
        """The operator and its origin."""
        return f"{self.op} = {' + '.join(self.origin)}" if len(self.origin) > 1 else self.op


@dataclass(frozen=True)
class Comparison:
    """The layers in the order in which they ran, and the names that the other side lacks."""

    layers: list[LayerComparison]
    unmatched: list[str]

    @property
    def worst(self) -> LayerComparison:
        """The layer with the greatest relative error; a problem is worse than any number."""
        return max(self.layers, key=lambda layer: (bool(layer.problem), layer.relative))

    def first_over(self, tolerance: float) -> LayerComparison | None:
        """Return the first layer that differs, or None; later ones may only inherit its error."""
        return next((layer for layer in self.layers if not layer.within(tolerance)), None)

    def quanta(self, tolerance: float) -> int:
        """Return how many layers differ by more than the tolerance, but not more than rounding to bytes explains."""
        return sum(layer.within(tolerance) and layer.relative > tolerance for layer in self.layers)


def compare_layers(
    session: InferenceSession,
    feeds: Mapping[str, Any],
    other: Values,
    look: Callable[[str, Any, Any], None] = lambda name, ours, theirs: None,
) -> Comparison:
    """Run a model and compare every layer and output with the other side's values.

    Results that only fused nodes have are not compared. `look` is called with the name and both values of each layer,
    which must be copied to be kept. Raises InputError if the other side has none of the layers, and
    the errors of `session.run`.
    """
    in_file = session.graph.values()
    ops = {node.label: node.op_type for node in session.graph.nodes}
    layers: list[LayerComparison] = []
    unmatched: list[str] = []
    quantum = 0.0

    def compare(name: str, op: str, origin: tuple[str, ...], result: Any) -> None:
        nonlocal quantum
        if name in other:
            theirs = other[name]
            layer = _compare(name, op, origin, result, theirs)
            of_bytes = isinstance(result, np.ndarray) and result.dtype in (np.int8, np.uint8)
            step = _quantum(result) if of_bytes and layer.error == 1 else math.inf
            if step <= _LARGEST_QUANTUM and (quantum or op.startswith(_ROUNDING)):
                quantum = max(quantum, step)
                layer = replace(layer, quantised=layer.relative)
            elif not of_bytes:
                layer = replace(layer, quantised=quantum)
            layers.append(layer)
            look(name, result, theirs)
        else:
            unmatched.append(name)

    own = {id(node) for node in session.plan_for(None, feeds, by_item=False).graph.nodes}

    def hook(node: Node, outputs: list[Any]) -> None:
        if id(node) not in own:  # a node of a subgraph: the other side has the outputs of the subgraph only
            return
        origin = tuple(ops.get(name, name) for name in node.origin)
        for value, result in zip(node.outputs, outputs):
            if value is not None and value.name in in_file:
                compare(value.name, node.op_type, origin, result)

    results = session.run_with_hook(feeds, hook)
    seen = {layer.name for layer in layers}
    for arg, result in zip(session.get_outputs(), results, strict=True):
        if arg.name not in seen and arg.name not in unmatched:
            compare(arg.name, "(output)", (), result)
    if not layers:
        raise InputError(f"{session.name}: no layer has a counterpart of the same name on the other side")
    return Comparison(layers, unmatched)


# -- the other side -----------------------------------------------------------------------


class RunningValues(Mapping[str, Any]):
    """The results of a model's own nodes, computed in numpy while they are requested in about the order of the run.

    The run continues up to the requested result. Results that it passes are kept only if they are in `names`, until
    they are taken: two runs side by side need little memory. Each can be taken once. Raises what a session raises, and
    on request what `session.run` raises.
    """

    def __init__(self, source: str | bytes, feeds: Mapping[str, Any], names: Iterable[str]) -> None:
        options = SessionOptions()
        options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = InferenceSession(source, options)
        inputs = {arg.name for arg in self._session.get_inputs()}
        self._feeds = {name: array for name, array in feeds.items() if name in inputs}
        self._names = set(names)
        self._run = self._session.trace(self._feeds)
        self._waiting: dict[str, Any] = {}

    def __contains__(self, name: object) -> bool:
        while name not in self._waiting:
            step = next(self._run, None)
            if step is None:
                break
            for value, result in zip(step[0].outputs, step[1]):
                if value is not None and value.name in self._names:
                    self._waiting[value.name] = result.copy() if isinstance(result, np.ndarray) else result
        if name not in self._waiting and name in {arg.name for arg in self._session.get_outputs()}:
            self._waiting[str(name)] = self._session.run([str(name)], self._feeds)[0]  # not the result of a node
        return name in self._waiting

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        return self._waiting.pop(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class SavedValues(Mapping[str, Any]):
    """The arrays of an .npz file, read one at a time.

    Raises InputError if it is not such a file, OSError if it can't be read.
    """

    def __init__(self, path: str) -> None:
        try:
            self._file = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise InputError(f"{path}: not an .npz file ({error})") from error
        if isinstance(self._file, np.ndarray):
            raise InputError(f"{path}: a single array; expected an .npz file with arrays by tensor name")

    def __getitem__(self, name: str) -> Any:
        return self._file[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.files)

    def __len__(self) -> int:
        return len(self._file.files)


def layer_names(session: InferenceSession, feeds: Mapping[str, Any]) -> list[str]:
    """Return the names of the results of the plan's nodes, in order."""
    nodes = session.plan_for(None, feeds).graph.nodes
    return [value.name for node in nodes for value in node.outputs if value is not None]


# -- distances ----------------------------------------------------------------------------


_CHUNK = 1 << 16
"""Elements compared at a time, so that both sides stay in the cache and memory stays small."""


def _chunks(ours: Array, other: Array) -> Iterator[tuple[Array, Array]]:
    a, b = np.ravel(ours), np.ravel(other)
    return ((a[i : i + _CHUNK], b[i : i + _CHUNK]) for i in range(0, a.size, _CHUNK))


def difference(ours: Array, other: Array) -> tuple[float, float]:
    """Return the greatest absolute difference of two arrays of equal shape, and the same relative to the scale.

    The scale is the other array's greatest finite magnitude (1 if that is 0). Both are infinite if NaN and infinities
    are not in the same places.
    """
    wide = _wide(other)
    error = scale = 0.0
    for a, b in _chunks(ours, other):
        a, b = a.astype(wide), b.astype(wide)
        finite = np.isfinite(b)
        if not finite.all():
            if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
                return np.inf, np.inf
            a, b = a[finite], b[finite]
        if not np.isfinite(a).all():
            return np.inf, np.inf
        error = max(error, float(np.abs(a - b).max(initial=0.0)))
        scale = max(scale, float(np.abs(b).max(initial=0.0)))
    return error, error / (scale or 1.0)


_BITS: dict[int, Any] = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}


def ulps(ours: Array, other: Array) -> int:
    """Return the greatest distance of two arrays of one floating-point type, in representable numbers."""
    if ours.dtype.kind not in "fV":
        return 0
    bits, greatest = _BITS[ours.dtype.itemsize], 0
    for a, b in _chunks(ours, other):
        with np.errstate(invalid="ignore"):
            both = np.isfinite(a.astype(np.float64)) & np.isfinite(b.astype(np.float64))
        i, j = (_ordered(x.view(bits) if both.all() else x.view(bits)[both], bits) for x in (a, b))
        distance = np.where(i > j, i.astype(np.uint64) - j.astype(np.uint64), j.astype(np.uint64) - i.astype(np.uint64))
        greatest = max(greatest, int(distance.max(initial=0)))
    return greatest


def _ordered(bits: Array, kind: Any) -> Array:
    """Return the bits of floats as integers in the order of the numbers; both zeros are 0."""
    return np.where(bits < 0, np.iinfo(kind).min - bits.astype(np.int64), bits.astype(np.int64))


def cosine(ours: Array, other: Array) -> float:
    """Return the cosine of the angle between two arrays as vectors; 1 if both are 0, NaN with NaN or infinities."""
    product = first = second = 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        for a, b in _chunks(ours, other):
            a, b = a.astype(np.float64), b.astype(np.float64)
            product += float((a * b).sum())
            first, second = first + float((a * a).sum()), second + float((b * b).sum())
    if not first or not second:
        return float(first == second)
    return float(np.clip(product / math.sqrt(first) / math.sqrt(second), -1, 1))


def _quantum(quantised: Array) -> float:
    """Return the most that one step of these bytes can be, relative to the scale of the numbers that they stand for."""
    spread = int(quantised.max()) - int(quantised.min())
    return 2 / spread if spread else math.inf  # the zero point may be in the middle


def _compare(name: str, op: str, origin: tuple[str, ...], ours: Any, other: Any) -> LayerComparison:
    shape = tuple(getattr(ours, "shape", ()))
    if not isinstance(ours, np.ndarray) or ours.dtype.kind not in "fiubcV":
        problem = "" if _same(ours, other) else "differs from the other side"
        return LayerComparison(name, op, origin, shape, problem=problem)
    theirs = np.asarray(other)
    if ours.dtype.kind == "V" and theirs.dtype == np.float32:  # how files hold bfloat16 and float8
        theirs = theirs.astype(ours.dtype)
    if (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
        wanted = f"{theirs.dtype}{list(theirs.shape)}"
        return LayerComparison(
            name, op, origin, shape, problem=f"is {ours.dtype}{list(ours.shape)}, the other side's {wanted}"
        )
    similarity = cosine(ours, theirs) if ours.dtype.kind != "c" else 1.0
    error, relative = difference(ours, theirs)
    problem = _not_finite(ours, theirs) if np.isinf(error) else ""
    return LayerComparison(name, op, origin, shape, error, relative, ulps(ours, theirs), similarity, problem)


def _not_finite(ours: Array, other: Array) -> str:
    """Return in words which numbers that are not finite two arrays have; "" if they differ otherwise."""
    counts = [(int(np.isnan(x).sum()), int(np.isinf(x).sum())) for x in (a.astype(_wide(a)) for a in (ours, other))]
    if counts[0] == counts[1] == (0, 0):
        return ""
    here, there = (
        " and ".join([f"{n} {name}" for n, name in zip(pair, ("NaN", "infinite")) if n]) or "all finite"
        for pair in counts
    )
    places = " in other places" if counts[0] == counts[1] else ""
    return f"{here} here, {there} on the other side{places}"


def _wide(array: Array) -> Any:
    return np.complex128 if array.dtype.kind == "c" else np.float64


def _same(ours: Any, other: Any) -> bool:
    """Return whether values without a distance are equal: strings, sequences, optional values."""
    if isinstance(ours, list) and isinstance(other, list):
        return len(ours) == len(other) and all(map(_same, ours, other))
    if isinstance(ours, np.ndarray) and isinstance(other, np.ndarray) and ours.dtype.kind in "fc":
        return ours.shape == other.shape and difference(ours, other)[1] <= TOLERANCE
    return bool(np.array_equal(ours, other))
