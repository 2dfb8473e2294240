"""Any implementation of `onnx.backend.base.Backend`, by its import path."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from onnx import load_from_string

from onnx_conformance import ConformanceError
from onnx_conformance.runtimes.base import Prepare, Run


def start(path: str) -> Prepare:
    """Return the way to prepare a model on `package.module` or `package.module:Class`."""
    backend = _find(path)

    def prepare(model: bytes) -> Run:
        proto = load_from_string(model)
        initialised = {tensor.name for tensor in proto.graph.initializer}
        names = [value.name for value in proto.graph.input if value.name not in initialised]
        loaded = backend(proto)
        return lambda feeds: list(loaded.run([feeds[name] for name in names]))

    return prepare


def _find(path: str) -> Callable[[Any], Any]:
    """Return the function `prepare` of a backend. Raises ConformanceError if it has none."""
    module, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        found = getattr(found, name) if name else found
        prepare: Callable[[Any], Any] = found.prepare
    except (ImportError, AttributeError) as error:
        raise ConformanceError(f"backend:{path} has no function `prepare`: {error}") from error
    return prepare
