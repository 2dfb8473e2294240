"""The values of every layer: shapes, ranges, zeros, NaNs, and the arrays themselves."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyonnx.dtypes import onnx_type
from tinyonnx.errors import InputError
from tinyonnx.files import naming_file
from tinyonnx.ir import Array, Graph, Node
from tinyonnx.ort.session import InferenceSession
from tinyonnx.passes import BASIC
from tinyonnx.tools.feeds import shapes_only

HISTOGRAM_BINS = 64


@dataclass(frozen=True)
class ActivationReport:
    """Statistics of one result of a node.

    Minimum, maximum, mean and standard deviation are of the finite numbers, None if there are none; `zeros` is a share
    of all numbers. A node of a subgraph (`path` leads to it) has one activation for each time that it ran. `value`
    describes values other than tensors of numbers.
    """

    path: str
    op: str
    origin: tuple[str, ...]
    name: str
    type: str
    shape: tuple[int, ...]
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    std: float | None = None
    zeros: float | None = None
    nans: int = 0
    infinities: int = 0
    value: str = ""

    @property
    def finite(self) -> bool:
        """Whether all elements are finite."""
        return not self.nans and not self.infinities


Reader = Callable[[ActivationReport, Any], None]
"""Gets an activation and its value, which must be copied to be kept."""


def trace(session: InferenceSession, feeds: Mapping[str, Any], read: Reader, constants: bool = False) -> list[Any]:
    """Run a model, call `read` for every result of every node as soon as it is computed, and return the outputs.

    With `constants`, results that depend on shapes and constants only come last, also after an error: their nodes do
    not run. No results are kept: memory is that of a run. Raises the errors of `InferenceSession.run`.
    """
    paths: dict[int, str] = {}

    def hook(node: Node, outputs: list[Any]) -> None:
        if id(node) not in paths:
            paths.update(_paths(plan.graph, ""))
        path = paths.get(id(node), node.label)
        for value, result in zip(node.outputs, outputs):
            if value is not None:
                read(describe(path, node.op_type, tuple(node.origin), value.name, result), result)

    plan = session.plan_for(None, feeds, by_item=False)
    try:
        return session.run_with_hook(feeds, hook)
    finally:
        if constants:
            _read_constants(session, feeds, read)


def _read_constants(session: InferenceSession, feeds: Mapping[str, Any], read: Reader) -> None:
    folded = session.rewrite(shapes_only(feeds), BASIC).folded
    producers = {value.name: node for node in session.graph.nodes for value in node.outputs if value is not None}
    for name, value in folded.items():
        if name in producers:
            node = producers[name]
            read(describe(node.label, node.op_type, tuple(node.origin), name, value.const), value.const)


def describe(path: str, op: str, origin: tuple[str, ...], name: str, result: Any) -> ActivationReport:
    """Return the statistics of one value."""
    if not isinstance(result, np.ndarray):
        text = f"sequence of {len(result)}" if isinstance(result, list) else type(result).__name__
        return ActivationReport(path, op, origin, name, "", (), value="absent" if result is None else text)
    kind = onnx_type(result.dtype) or str(result.dtype)
    if result.dtype.kind not in "fiubV" or not result.size:
        return ActivationReport(path, op, origin, name, kind, result.shape, value="" if result.size else "empty")
    return ActivationReport(path, op, origin, name, kind, result.shape, *_statistics(result))


def _statistics(result: Array) -> tuple[Any, ...]:
    numbers = result if result.dtype.kind in "fiu" else result.astype(np.float32)
    nans, infinities = 0, 0
    zeros = 1 - np.count_nonzero(numbers) / numbers.size
    if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
        nans, infinities = int(np.isnan(numbers).sum()), int(np.isinf(numbers).sum())
        numbers = numbers[np.isfinite(numbers)]
        if not numbers.size:
            return None, None, None, None, zeros, nans, infinities
    mean = float(numbers.mean(dtype=np.float64))
    std = float(numbers.std(dtype=np.float64))
    return float(numbers.min()), float(numbers.max()), mean, std, zeros, nans, infinities


def _paths(graph: Graph, prefix: str) -> Iterator[tuple[int, str]]:
    for node in graph.nodes:
        yield id(node), prefix + node.label
        for name, attribute in node.attributes.items():
            if isinstance(attribute, Graph):
                yield from _paths(attribute, f"{prefix}{node.label}/{name}/")


def matching(only: str) -> Callable[[str], bool]:
    """Return a predicate: whether a regular expression is found in a name. Raises InputError if it is malformed."""
    try:
        wanted = re.compile(only)
    except re.error as error:
        raise InputError(f"{only!r} is not a regular expression: {error}") from None
    return lambda name: wanted.search(name) is not None


@contextmanager
def saving(path: str) -> Iterator[Reader]:
    """Return a reader that appends every tensor to an .npz file, one at a time.

    A repeated name (in a loop) gets #2, #3 and so on appended. Anything but tensors of numbers is skipped. Raises
    OSError if the file can't be written.
    """
    count: dict[str, int] = {}
    with naming_file(path), zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:

        def read(activation: ActivationReport, result: Any) -> None:
            if not isinstance(result, np.ndarray) or result.dtype.kind == "O":
                return
            count[activation.name] = times = count.get(activation.name, 0) + 1
            name = activation.name if times == 1 else f"{activation.name}#{times}"
            if result.dtype.kind == "V":  # numpy's format lacks bfloat16 and float8
                result = result.astype(np.float32)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(result, order="C"), allow_pickle=False)

        yield read
