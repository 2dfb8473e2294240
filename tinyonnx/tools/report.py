"""One HTML file that shows a model: graph, table, activations, times, differences; it needs no network."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from typing import Any

import numpy as np

from tinyonnx.files import write_text
from tinyonnx.ir import Array
from tinyonnx.passes import Remark
from tinyonnx.tools._images import Picture, picture, shrink
from tinyonnx.tools._layout import layout
from tinyonnx.tools.compare import Comparison
from tinyonnx.tools.inspect import GraphReport, PlanReport
from tinyonnx.tools.profile import Profile
from tinyonnx.tools.trace import HISTOGRAM_BINS, ActivationReport, describe

_MAP = 64, 160
_TILE = 32, 64
_TILES = 8
"""Maximum rows and columns of pictures of an activation and of single channels, and maximum number of channels."""

_SMALLEST_TILE = 256
"""Minimum number of points of a channel that gets a picture."""

_POINTS = 3_000_000
"""Maximum points of all pictures of a report; one takes about a byte, so that the file stays below 5 MB."""

_CURVE = 512
"""Maximum points of the curve of a vector."""


@dataclass(frozen=True)
class PictureAxis:
    """The meaning of a picture's axis: ticks at places from 0, its beginning, to 1; `upward` puts 0 at the bottom."""

    title: str
    ticks: list[tuple[float, str]]
    upward: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page above the graph: a picture, a curve between its extremes, or bars, with a title."""

    title: str
    picture: Picture | None = None
    curve: list[float] = field(default_factory=list)
    bars: list[tuple[str, float]] = field(default_factory=list)
    unit: str = ""
    note: str = ""
    rows: PictureAxis | None = None
    columns: PictureAxis | None = None


class Report:
    """Collects what is known about the nodes of one graph, and writes it as a page.

    Nodes are identified by their path, as in `inspect`, `trace` and `profile`. `axes` names the axes of activations, by
    number.
    """

    def __init__(self, title: str, graph: GraphReport, axes: Mapping[int, PictureAxis] | None = None) -> None:
        self.title, self.axes = title, dict(axes or {})
        self.sections: list[Section] = []
        self.verdict = ""
        self.failed = False
        self._graph = graph
        self._tolerance: float | None = None
        self._rows: dict[str, dict[str, Any]] = {}
        self._by_output: dict[str, str] = {}
        for node in graph.nodes:
            row = asdict(node)
            row["name"] = node.path
            self._rows[node.path] = row
            for tensor in node.outputs:
                if tensor is not None:
                    self._by_output.setdefault(tensor.name, node.path)

    def add_plan(self, plan: PlanReport) -> None:
        """Add kernels, places in the arena and reasons."""
        for step in plan.steps:
            row = self._rows.get(step.name)
            if row is not None and step.kind != "layout":
                row |= {"kind": step.kind, "kernels": step.kernels, "why": step.why, "macs": step.macs}
                row |= {"arena": None if step.offset is None else [step.offset, step.bytes]}

    def add_remarks(self, remarks: Iterable[Remark]) -> None:
        """Add the remarks of passes about the remaining nodes."""
        for remark in remarks:
            row = self._rows.get(remark.node)
            if row is not None:
                skipped = "" if remark.applied else "skipped: "
                row.setdefault("remarks", []).append(f"{remark.pass_name}: {skipped}{remark.text}")

    def add_activation(self, activation: ActivationReport, value: Any) -> None:
        """Add statistics, a histogram and pictures of a node's first result; in a loop, of the last iteration."""
        row = self._rows.get(activation.path)
        if row is None or row.get("stats", {}).get("name", activation.name) != activation.name:
            return
        row["stats"] = _statistics(activation)
        if isinstance(value, np.ndarray) and value.size and value.dtype.kind in "fiubV":
            numbers = value.astype(np.float32)
            row["histogram"] = _histogram(numbers, activation)
            row |= self._shown(numbers)

    def add_profile(self, profile: Profile) -> None:
        """Add times."""
        for step in profile.steps:
            row = self._rows.get(step.name)
            if row is not None and step.kind != "layout":
                row |= {"us": step.seconds * 1e6, "share": step.seconds / profile.total if profile.total else 0}
                row |= {"gflops": step.gflops, "roof": step.roof, "why": step.why, "kind": step.kind}
        for title, groups in (("time per operator", profile.by_op()), ("time per fused group", profile.by_group())):
            bars = [(f"{key} ({n}×)" if n > 1 else key, seconds * 1e6) for key, n, seconds in groups[:8]]
            self.sections.append(Section(title, bars=bars, unit="µs"))

    def add_comparison(self, comparison: Comparison, tolerance: float) -> None:
        """Add differences from the other side."""
        self._tolerance = tolerance
        for layer in comparison.layers:
            row = self._rows.get(self._by_output.get(layer.name, ""))
            if row is not None:
                numbers = {k: getattr(layer, k) for k in ("error", "relative", "ulp", "cosine", "problem")}
                row["difference"] = numbers | {"over": not layer.within(tolerance)}

    def add_sides(self, name: str, ours: Any, theirs: Any) -> None:
        """Add statistics, histograms over a common range and pictures of a tensor on both sides of a comparison."""
        row = self._rows.get(self._by_output.get(name, ""))
        if row is None or "sides" in row:
            return
        sides = [np.asarray(side) for side in (ours, theirs)]
        if any(side.dtype.kind not in "fiubV" or not side.size for side in sides):
            return
        found = [describe(row["path"], row["op"], (), name, side) for side in sides]
        ends = [end for each in found for end in (each.minimum, each.maximum) if end is not None]
        row["sides"] = []
        for side, each in zip(sides, found):
            numbers = side.astype(np.float32)
            common = replace(each, minimum=min(ends), maximum=max(ends)) if ends else each
            shown = self._shown(numbers, sides=2) | {
                "histogram": _histogram(numbers, common),
                "ends": ends and [min(ends), max(ends)],
            }
            row["sides"].append(shown | {"stats": _statistics(each)})

    def html(self) -> str:
        """Return the page."""
        graph = self._graph
        rows = list(self._rows.values())
        edges, inside = self._edges()
        places, routes = layout(len(rows), edges + inside)
        data = {
            "title": self.title,
            "verdict": self.verdict,
            "failed": self.failed,
            "tolerance": self._tolerance,
            "file": os.path.basename(graph.file),
            "opsets": graph.opsets,
            "inputs": [asdict(t) for t in graph.inputs],
            "outputs": [asdict(t) for t in graph.outputs],
            "totals": {"parameters": graph.parameters, "macs": graph.macs, "bytes": graph.bytes},
            "axes": {number: asdict(axis) for number, axis in self.axes.items()},
            "sections": [asdict(section) for section in self.sections],
            "nodes": rows,
            "edges": edges,
            "inside": inside,
            "places": places,
            "routes": routes,
        }
        text = json.dumps(_compact(data), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
        page = _asset("report.html").replace("/*CSS*/", _asset("report.css"))
        page = page.replace("/*JS*/", _asset("report_elements.js") + _asset("report.js"))
        return page.replace("/*DATA*/null", text)

    def write(self, path: str) -> None:
        """Write the page. Raises OSError."""
        write_text(path, self.html())

    def _edges(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Return the edges between nodes, and pairs of a node and one in its subgraph that reads nothing within it."""
        number = {path: i for i, path in enumerate(self._rows)}
        edges: list[tuple[int, int]] = []
        inside: list[tuple[int, int]] = []
        for target, row in enumerate(self._rows.values()):
            before = len(edges)
            for tensor in row["inputs"]:
                source = number.get(self._by_output.get(tensor["name"], "")) if tensor is not None else None
                if source is not None and source < target:
                    edges.append((source, target))
            owner = number.get(row["owner"])
            if owner is not None and all(source < owner for source, _ in edges[before:]):
                inside.append((owner, target))
        return list(dict.fromkeys(edges)), inside

    def _shown(self, numbers: Array, sides: int = 1) -> dict[str, Any]:
        """Return the parts of a page about an activation, one of `sides` of its node.

        These are a picture and, if there is one side, those of some channels, or a curve.
        """
        axes = [axis for axis, size in enumerate(numbers.shape) if size > 1]
        values = numbers.squeeze()
        while values.ndim > 3:
            values, axes = values[0], axes[1:]
        if values.ndim < 2:
            return {"curve": curve(values.reshape(-1), _CURVE), "axes": axes} if values.size > 2 else {}
        budget = _POINTS // len(self._rows) // sides
        channels = values[None] if values.ndim == 2 else values
        flip = axes[-2] in self.axes and self.axes[axes[-2]].upward
        shown: dict[str, Any] = {"axes": axes[-2:], "of": len(channels)}
        count = min(len(channels), _TILES, budget // 2 // _SMALLEST_TILE) if len(channels) > 1 and sides == 1 else 0
        with np.errstate(invalid="ignore", over="ignore"):
            mean = channels.mean(axis=0)
            spread = np.nan_to_num(channels.std(axis=(1, 2)), posinf=0)
        shown["map"] = asdict(picture(_fitted(mean, _MAP, budget // 2 if count else budget), flip))
        # channels with the greatest variance first
        chosen = np.sort(np.argsort(-spread, kind="stable")[:count])
        tiles = [picture(_fitted(channels[c], _TILE, budget // 2 // count), flip) for c in chosen]
        shown["tiles"] = [{"channel": int(c)} | asdict(tile) for c, tile in zip(chosen, tiles)]
        return shown


def small_picture(values: Array, flip: bool = False) -> Picture:
    """Encode a matrix as a picture of at most 128 × 640 points."""
    return picture(shrink(values, 128, 640), flip)


def curve(samples: Array, points: int = 1200) -> list[float]:
    """Reduce a curve to at most this many points: a long one to minima and maxima of consecutive stretches."""
    samples = np.asarray(samples, np.float64)
    if len(samples) > points:
        stretches = np.array_split(samples, points // 2)
        samples = np.array([extreme for s in stretches for extreme in (s.min(), s.max())])
    return [float(f"{v:.5g}") for v in samples]


def _asset(name: str) -> str:
    """Return a file of this package: a part of the page."""
    return files("tinyonnx.tools").joinpath(name).read_text(encoding="utf-8")


def _fitted(values: Array, most: tuple[int, int], points: int) -> Array:
    """Reduce a matrix to at most this many rows, columns and points."""
    height, width = min(values.shape[0], most[0]), min(values.shape[1], most[1])
    factor = min(1.0, math.sqrt(points / (height * width)))
    return shrink(values, max(1, int(height * factor)), max(1, int(width * factor)))


def _statistics(activation: ActivationReport) -> dict[str, Any]:
    return {k: v for k, v in asdict(activation).items() if k not in ("path", "op", "origin")}


def _histogram(numbers: Array, activation: ActivationReport) -> list[int]:
    if activation.minimum is None or activation.maximum is None:
        return []
    finite = numbers[np.isfinite(numbers)]
    span = (activation.minimum, activation.maximum)
    if span[1] - span[0] <= HISTOGRAM_BINS * np.spacing(np.float32(max(map(abs, span)))):
        return [int(finite.size)]
    return [int(n) for n in np.histogram(finite, HISTOGRAM_BINS, span)[0]]


def _compact(value: Any) -> Any:
    """Convert for JSON: numbers to six digits, NaN and infinities to text, without None."""
    if isinstance(value, dict):
        return {str(k): _compact(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_compact(item) for item in value]
    if isinstance(value, np.generic):
        return _compact(value.item())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return value
