"""One HTML file that shows a model: graph, table, activations, times, differences; no network needed."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np

from tinyonnx.ir import Array
from tinyonnx.tools._images import picture, shrink
from tinyonnx.tools._layout import layout
from tinyonnx.tools.compare import Comparison
from tinyonnx.tools.inspect import GraphReport, PlanReport
from tinyonnx.tools.profile import Profile
from tinyonnx.tools.trace import HISTOGRAM_BINS, Activation

_MAP = 64, 160
"""Rows and columns of an activation's picture at most."""

_TILE = 32, 64
_TILES = 8
"""Size and number of pictures of single channels."""

_PICTURE_BYTES = 3_500_000
"""All pictures of a report together: then the file stays below 5 MB."""


@dataclass
class Section:
    """Something above the graph: a picture (`image`, a data URI), a curve, or bars, with a title."""

    title: str
    image: str = ""
    curve: list[float] = field(default_factory=list)
    bars: list[tuple[str, float]] = field(default_factory=list)
    note: str = ""


class Report:
    """Collects what is known of the nodes of one graph, and writes it as a page.

    Nodes are known by their path, as `inspect`, `trace` and `profile` give it.
    """

    def __init__(self, title: str, graph: GraphReport, flip: bool = False) -> None:
        self.title, self.flip = title, flip
        self.sections: list[Section] = []
        self._graph = graph
        self._rows: dict[str, dict[str, Any]] = {}
        self._by_output: dict[str, str] = {}
        self._spent = 0
        for node in graph.nodes:
            row = asdict(node)
            row["name"] = node.path
            self._rows[node.path] = row
            for tensor in node.outputs:
                if tensor is not None:
                    self._by_output.setdefault(tensor.name, node.path)

    def add_plan(self, plan: PlanReport) -> None:
        """Kernels, places in the arena, reasons."""
        for step in plan.steps:
            row = self._rows.get(step.name)
            if row is not None and step.kind != "layout":
                row |= {"kind": step.kind, "kernels": step.kernels, "why": step.why, "macs": step.macs}
                row |= {"arena": None if step.offset is None else [step.offset, step.bytes]}

    def add_activation(self, activation: Activation, value: Any) -> None:
        """Statistics, a histogram and pictures of a node's first result; of a loop's the last."""
        row = self._rows.get(activation.path)
        if row is None or row.get("stats", {}).get("name", activation.name) != activation.name:
            return
        stats = {k: v for k, v in asdict(activation).items() if k not in ("path", "op", "origin")}
        row["stats"] = stats
        if isinstance(value, np.ndarray) and value.size and value.dtype.kind in "fiubV":
            numbers = value.astype(np.float32)
            row["histogram"] = _histogram(numbers, activation)
            self._add_pictures(row, numbers)

    def add_profile(self, profile: Profile) -> None:
        """Times."""
        for step in profile.steps:
            row = self._rows.get(step.name)
            if row is not None and step.kind != "layout":
                row |= {"us": step.seconds * 1e6, "share": step.seconds / profile.total if profile.total else 0}
                row |= {"gflops": step.gflops, "roof": step.roof, "why": step.why, "kind": step.kind}

    def add_comparison(self, comparison: Comparison, tolerance: float) -> None:
        """Differences from the other side."""
        for layer in comparison.layers:
            row = self._rows.get(self._by_output.get(layer.name, ""))
            if row is not None:
                numbers = {k: getattr(layer, k) for k in ("error", "relative", "ulp", "cosine", "problem")}
                row["difference"] = numbers | {"over": not layer.within(tolerance)}

    def html(self) -> str:
        """The page."""
        graph = self._graph
        rows = list(self._rows.values())
        edges = self._edges()
        data = {
            "title": self.title,
            "file": os.path.basename(graph.file),
            "opsets": graph.opsets,
            "inputs": [asdict(t) for t in graph.inputs],
            "outputs": [asdict(t) for t in graph.outputs],
            "totals": {"parameters": graph.parameters, "macs": graph.macs, "bytes": graph.bytes},
            "sections": [asdict(section) for section in self.sections],
            "nodes": rows,
            "edges": edges,
            "places": layout(len(rows), edges),
        }
        text = json.dumps(_finite(data), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
        template = files("tinyonnx.tools").joinpath("report.html").read_text(encoding="utf-8")
        return template.replace("/*DATA*/null", text)

    def write(self, path: str) -> None:
        """Write the page. Raises OSError."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.html())

    def _edges(self) -> list[tuple[int, int]]:
        number = {path: i for i, path in enumerate(self._rows)}
        edges = []
        for target, row in enumerate(self._rows.values()):
            for tensor in row["inputs"]:
                source = number.get(self._by_output.get(tensor["name"], "")) if tensor is not None else None
                if source is not None and source < target:
                    edges.append((source, target))
        return list(dict.fromkeys(edges))

    def _add_pictures(self, row: dict[str, Any], numbers: Array) -> None:
        if numbers.ndim < 2 or self._spent > _PICTURE_BYTES:
            return
        # batch and channels in front, one or two axes behind; a vector per channel is a map of its own
        first = numbers[0] if numbers.ndim > 2 else numbers
        channels = first.reshape(-1, *first.shape[-2:]) if first.ndim > 2 else first[None]
        if channels.shape[1] * channels.shape[2] < 4:
            return
        row["map"] = picture(shrink(channels.mean(axis=0), *_MAP), self.flip)
        self._spent += len(row["map"])
        if len(channels) > 1 and len(self._rows) <= 150:
            # the channels that vary most show most
            with np.errstate(invalid="ignore", over="ignore"):
                spread = np.nan_to_num(channels.std(axis=(1, 2)), posinf=0)
            chosen = np.sort(np.argsort(-spread, kind="stable")[:_TILES])
            row["tiles"] = [[int(c), picture(shrink(channels[c], *_TILE), self.flip)] for c in chosen]
            self._spent += sum(len(tile) for _, tile in row["tiles"])


def small_picture(values: Array, flip: bool = False) -> str:
    """A matrix as the data URI of a picture of at most 128 × 640 points."""
    return picture(shrink(values, 128, 640), flip)


def curve(samples: Array, points: int = 1200) -> list[float]:
    """A long curve as minima and maxima of stretches, one after the other: what a screen can show."""
    stretches = np.array_split(np.asarray(samples, np.float64), min(points // 2, max(len(samples), 1)))
    return [round(float(v), 5) for s in stretches if len(s) for v in (s.min(), s.max())]


def _histogram(numbers: Array, activation: Activation) -> list[int]:
    if activation.minimum is None or activation.maximum is None:
        return []
    finite = numbers[np.isfinite(numbers)]
    span = (activation.minimum, activation.maximum)
    if span[1] - span[0] <= HISTOGRAM_BINS * np.spacing(np.float32(max(map(abs, span)))):
        return [int(finite.size)]
    return [int(n) for n in np.histogram(finite, HISTOGRAM_BINS, span)[0]]


def _finite(value: Any) -> Any:
    """JSON has neither NaN nor infinity: those become text."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        return _finite(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    return value
