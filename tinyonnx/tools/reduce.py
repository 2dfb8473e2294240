"""Shrink a model whose results differ from another runtime's, or that fails, to a few nodes and small shapes.

The other side runs once and gives every tensor. The nodes of the first layer that differs are the first attempt, with
their inputs as the other side computed them; while these don't reproduce the fault, the nodes before them are added.
What is found is then reduced: groups of nodes are left out as long as the fault stays (Zeller's ddmin), then outputs,
then every size of inputs and weights is cut.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tinyonnx.errors import Error, InputError
from tinyonnx.ir import Array
from tinyonnx.onnxfile.messages import Message
from tinyonnx.ort.session import InferenceSession
from tinyonnx.passes import BASIC
from tinyonnx.tools.compare import compare_layers, difference
from tinyonnx.tools.feeds import shapes_only
from tinyonnx.tools.surgery import as_array, copy_of, forget_shapes, labels_of, part_of, set_array


class OtherSide(Protocol):
    """Another way to run models.

    With `own_weights`, it runs the nodes of another model between the same tensors, so that weights can't be cut.
    """

    own_weights: bool

    def values(self, model: Message, feeds: Mapping[str, Array], names: Collection[str]) -> Mapping[str, Any]:
        """Return the named tensors of a run. Raises InputError if the model can't run there."""


@dataclass(frozen=True)
class Reduced:
    """A model that shows the fault, with its inputs and the other side's results, and the fault in words."""

    model: Message
    feeds: dict[str, Array]
    expected: dict[str, Array]
    fault: str


def reduce_model(
    model: Message,
    feeds: Mapping[str, Array],
    other: OtherSide,
    tolerance: float,
    seconds: float,
    report: Callable[[str], None],
) -> Reduced | None:
    """Reduce a model for about this many seconds; return None if it neither differs nor fails.

    `report` is called with progress in words. Raises InputError if the other side can't run the model.
    """
    return _Reduction(model, other, tolerance, time.monotonic() + seconds, report).run(dict(feeds))


class Shrinker:
    """Shrinks a model while `shows` says that a part of it, with its inputs, still shows a fault.

    `values` are all tensors of a run of the whole model, inputs included; those named in `fixed` become constants of
    parts. Weights are cut only if `cut_weights`. `report` is called with progress in words; every step ends at the
    `deadline` of time.monotonic().
    """

    def __init__(
        self,
        model: Message,
        values: Mapping[str, Any],
        shows: Callable[[Message, dict[str, Array]], bool],
        deadline: float,
        report: Callable[[str], None] = lambda _: None,
        fixed: Collection[str] = (),
        cut_weights: bool = True,
    ) -> None:
        self._model, self._values, self._fault_stays = model, values, shows
        self._deadline, self._report = deadline, report
        self._fixed, self._cut_weights = fixed, cut_weights

    def part(self, kept: Collection[int]) -> tuple[Message, dict[str, Array]]:
        """Return the model of the nodes at these positions, with its inputs."""
        part = part_of(self._model, set(kept), self._values, self._fixed)
        return part, {value.name: self._values[value.name] for value in part.graph.input}

    def shows(self, kept: Collection[int]) -> bool:
        """Return whether the nodes at these positions show the fault."""
        try:
            part, inputs = self.part(kept)
        except (KeyError, AttributeError, TypeError):  # an input that is no array
            return False
        return self._fault_stays(part, inputs)

    def shrink(self, kept: list[int]) -> tuple[Message, dict[str, Array]]:
        """Return the smallest part found, with its inputs, beginning with the nodes at these positions."""
        part, inputs = self.part(self._minimal(kept))
        return self.smaller(*self._with_fewer_outputs(part, inputs))

    def _minimal(self, kept: list[int]) -> list[int]:
        """Leave out groups of nodes, halves first, while the fault stays."""
        size = len(kept) // 2
        while size and time.monotonic() < self._deadline:
            at = 0
            while at < len(kept) and len(kept) > 1 and time.monotonic() < self._deadline:
                fewer = kept[:at] + kept[at + size :]
                if fewer and self.shows(fewer):
                    kept = fewer
                    self._report(_counted(kept))
                else:
                    at += size
            size = min(size // 2, len(kept) // 2) if size > 1 else 0
        return kept

    def _with_fewer_outputs(self, part: Message, feeds: dict[str, Array]) -> tuple[Message, dict[str, Array]]:
        for output in list(part.graph.output) if len(part.graph.output) > 1 else []:
            fewer = copy_of(part)
            del fewer.graph.output[:]
            fewer.graph.output.append(output)
            if self._fault_stays(fewer, feeds):
                return fewer, feeds
        return part, feeds

    def smaller(self, part: Message, feeds: dict[str, Array]) -> tuple[Message, dict[str, Array]]:
        """Cut the sizes of inputs and weights: all axes of one size at once, then single axes."""
        changed = True
        while changed and time.monotonic() < self._deadline:
            changed = False
            for axes in _axes(_arrays(part, feeds) if self._cut_weights else feeds):
                for size in _smaller_sizes(_size(part, feeds, axes[0])):
                    if time.monotonic() > self._deadline:
                        break
                    cut = _cut(part, feeds, axes, size)
                    if self._fault_stays(*cut):
                        part, feeds = cut
                        changed = True
                        break
        return part, feeds


class _Reduction:
    def __init__(
        self,
        model: Message,
        other: OtherSide,
        tolerance: float,
        deadline: float,
        report: Callable[[str], None],
    ) -> None:
        self._model, self._other, self._tolerance = model, other, tolerance
        self._deadline, self._report = deadline, report
        self._values: dict[str, Any] = {}
        self._fixed: set[str] = set()
        self._fails = self._misshapen = False

    def run(self, feeds: dict[str, Array]) -> Reduced | None:
        names = [name for node in self._model.graph.node for name in node.output if name]
        values = self._other.values(self._model, feeds, names)
        fault = self._fault(self._model, feeds)
        if fault is None:
            return None
        self._values = {**feeds, **values}
        self._report(f"{_counted(self._model.graph.node)}: {fault}")
        self._fixed = self._constants(feeds)
        shrinker = Shrinker(
            self._model, self._values, self._shows, self._deadline, self._report, self._fixed,
            cut_weights=not self._other.own_weights,
        )  # fmt: skip
        part, inputs = shrinker.shrink(self._first(feeds, shrinker))
        fault = self._fault(part, inputs)
        if fault is None:
            return None
        outputs = [value.name for value in part.graph.output]
        found = self._other.values(part, inputs, outputs)
        return Reduced(part, inputs, {name: np.asarray(found[name]) for name in outputs}, fault)

    # -- the fault ------------------------------------------------------------------------

    def _shows(self, model: Message, feeds: Mapping[str, Array]) -> bool:
        return self._fault(model, feeds) is not None

    def _fault(self, model: Message, feeds: Mapping[str, Array]) -> str | None:
        """Return in words how a model differs or fails; None if it doesn't, or not in the way of the whole model."""
        outputs = [value.name for value in model.graph.output]
        try:
            expected = self._other.values(model, feeds, outputs)
            wanted = [expected[name] for name in outputs]
        except (InputError, KeyError):
            return None
        try:
            results = InferenceSession(model.SerializeToString()).run(outputs, feeds)
        except Error as error:
            if not self._values:
                self._fails = True
            return str(error).removeprefix("<bytes>: ") if self._fails else None
        return None if self._fails else self._difference(outputs, results, wanted)

    def _difference(self, names: list[str], ours: list[Any], wanted: list[Any]) -> str | None:
        for name, result, other in zip(names, ours, wanted, strict=True):
            if not isinstance(result, np.ndarray) or result.dtype.kind not in "fiubc":
                continue
            other = np.asarray(other)
            if (result.dtype, result.shape) != (other.dtype, other.shape):
                if self._values and not self._misshapen:
                    return None  # another fault than the whole model's
                self._misshapen = True
                return f"{name} is {result.dtype}{list(result.shape)}, not {other.dtype}{list(other.shape)}"
            relative = difference(result, other)[1]
            if relative > self._tolerance:
                return f"{name} differs by {relative:.1e} of its scale"
        return None

    # -- nodes ------------------------------------------------------------------------------

    def _constants(self, feeds: Mapping[str, Array]) -> set[str]:
        """Return the tensors that are constants once sizes are known."""
        try:
            session = InferenceSession(self._model.SerializeToString())
            return set(session.rewrite(shapes_only(feeds), BASIC).folded)
        except Error:
            return set()

    def _first(self, feeds: Mapping[str, Array], shrinker: Shrinker) -> list[int]:
        """Return positions of nodes to begin with: of the first layer that differs, and as few before it as needed."""
        nodes = self._model.graph.node
        everything = list(range(len(nodes)))
        try:
            session = InferenceSession(self._model.SerializeToString())
            layers = compare_layers(session, feeds, self._values)
        except Error:
            return everything
        culprit = layers.first_over(self._tolerance)
        if culprit is None:
            return everything
        labels = {label: i for i, label in enumerate(labels_of(nodes))}
        plan = session.plan_for(None, feeds, by_item=False)
        origins = next(
            (n.origin for n in plan.graph.nodes if any(v is not None and v.name == culprit.name for v in n.outputs)), ()
        )
        kept = {labels[label] for label in origins if label in labels}
        producer = {name: i for i, node in enumerate(nodes) for name in node.output if name}
        kept |= {producer[culprit.name]} if culprit.name in producer else set()
        while kept and len(kept) < len(nodes):
            if shrinker.shows(kept):
                return sorted(kept)
            before = {producer[name] for i in kept for name in nodes[i].input if name in producer} - kept
            if not before or time.monotonic() > self._deadline:
                break
            kept |= before
        return everything


Axis = tuple[str, int]
"""A tensor and one of its axes."""


def _arrays(part: Message, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Return inputs and weights by name; integers, which may be shapes and axes, are not among them."""
    found = dict(feeds) | {tensor.name: as_array(tensor) for tensor in part.graph.initializer}
    return {name: array for name, array in found.items() if array.dtype.kind == "f" or name in feeds}


def _size(part: Message, feeds: Mapping[str, Array], axis: Axis) -> int:
    return int(_arrays(part, feeds)[axis[0]].shape[axis[1]])


def _axes(arrays: Mapping[str, Array]) -> list[list[Axis]]:
    """Return groups of axes to cut together: those of one size, then each alone; the largest first."""
    sizes: dict[int, list[Axis]] = {}
    for name, array in arrays.items():
        for axis, size in enumerate(array.shape):
            if size > 1:
                sizes.setdefault(size, []).append((name, axis))
    groups = [sizes[size] for size in sorted(sizes, reverse=True)]
    singles = [[axis] for group in groups if len(group) > 1 for axis in group]
    by_axis = [
        [axis for axis in group if axis[1] == place] for group in groups for place in sorted({a for _, a in group})
    ]
    return groups + [g for g in by_axis if len(g) > 1] + singles


def _smaller_sizes(size: int) -> list[int]:
    sizes = [1 << k for k in range(size.bit_length()) if 1 << k < size]
    return [*sizes, size - 1] if size - 1 not in sizes and size > 2 else sizes


def _cut(part: Message, feeds: Mapping[str, Array], axes: list[Axis], size: int) -> tuple[Message, dict[str, Array]]:
    smaller = copy_of(part)
    cut = dict(feeds)
    for name, axis in axes:
        places = (slice(None),) * axis + (slice(0, size),)
        if name in cut:
            cut[name] = np.ascontiguousarray(cut[name][places])
            continue
        for tensor in smaller.graph.initializer:
            if tensor.name == name:
                set_array(tensor, as_array(tensor)[places])
    for value in smaller.graph.input:
        dims = value.type.tensor_type.shape.dim
        for dim, known in zip(dims, cut[value.name].shape):
            dim.dim_value = known
    forget_shapes(smaller.graph)
    return smaller, cut


def _counted(nodes: Sized) -> str:
    return f"{len(nodes)} node{'' if len(nodes) == 1 else 's'}"
