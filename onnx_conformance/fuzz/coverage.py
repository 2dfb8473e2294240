"""Coverage of a run: operators, their versions and types, and the passes of tinyonnx that rewrote a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import ModelProto, defs, numpy_helper

from onnx_conformance.generate.idioms import IDIOMS
from onnx_conformance.generate.mutate import all_operators
from onnx_conformance.generate.validity import all_nodes
from tinyonnx.passes import PIPELINE


@dataclass
class Coverage:
    """Counts of models that at least two runtimes ran, by `operator`, `operator version`, `operator type` and pass."""

    operators: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    passes: dict[str, int] = field(default_factory=dict)

    def add(self, model: ModelProto, feeds: Mapping[str, Any]) -> None:
        """Count a model."""
        opsets = {o.domain if o.domain != "ai.onnx" else "": o.version for o in model.opset_import}
        known = {name: str(value.dtype) for name, value in feeds.items() if isinstance(value, np.ndarray)}
        known |= {tensor.name: str(numpy_helper.to_array(tensor).dtype) for tensor in model.graph.initializer}
        for node in all_nodes(model.graph):
            domain = node.domain if node.domain != "ai.onnx" else ""
            name = f"{domain}.{node.op_type}" if domain else node.op_type
            _count(self.operators, name)
            try:
                since = defs.get_schema(node.op_type, opsets.get(domain, 1), domain).since_version
            except defs.SchemaError:
                continue
            _count(self.versions, f"{name} {since}")
            dtype = next((known[i] for i in node.input if i in known), None)
            if dtype is not None:
                _count(self.types, f"{name} {dtype}")

    def text(self) -> str:
        """Return the totals in a line."""
        every = all_operators()
        names = {f"{d}.{n}" if d else n for (d, n), _ in every}
        met = sum(name in names for name in self.operators)
        return (
            f"{met} of {len(names)} operators, {len(self.versions)} of {len(every)} versions, "
            f"{len(self.types)} pairs of operator and type, "
            f"{len(self.passes)} of {len({step.__name__ for step in PIPELINE})} passes of tinyonnx"
        )

    def missing(self) -> list[str]:
        """Return the operators that were not met."""
        names = {f"{d}.{n}" if d else n for (d, n), _ in all_operators()}
        return sorted(names - set(self.operators))

    def missing_passes(self) -> list[str]:
        """Return the passes of tinyonnx that look for a pattern and met none."""
        return sorted(set(IDIOMS) - set(self.passes))


def _count(counts: dict[str, int], key: str) -> None:
    counts[key] = counts.get(key, 0) + 1
