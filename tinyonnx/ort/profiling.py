"""Profiles of sessions: a file of trace events, in the form in which onnxruntime writes them."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinyonnx.errors import InputError
from tinyonnx.ir import Node
from tinyonnx.runtime.trace import Hook

_MOST = 1_000_000
"""Maximum number of events, as in onnxruntime; later ones are counted only."""


class SessionProfile:
    """Events of a session; `begin` is when the session began to load, on the clock of `time.perf_counter_ns`."""

    def __init__(self, prefix: str, begin: int) -> None:
        self.start_ns = time.time_ns()
        self._begin = begin
        moment = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(self.start_ns / 1e9))
        self._path = f"{prefix}_{moment}_{self.start_ns // 10**6 % 1000:03}.json"
        self._events: list[dict[str, Any]] = []
        self._dropped = 0
        self._add("Session", "session_initialization", begin, {})

    @contextmanager
    def run(self) -> Iterator[Hook]:
        """Record a run; yield the hook that is called after each node."""
        begin = last = time.perf_counter_ns()

        def hook(node: Node, outputs: list[Any]) -> None:
            nonlocal last
            shapes = [{x.dtype.name: list(x.shape)} for x in outputs if isinstance(x, np.ndarray)]
            more = {"op_name": node.op_type, "provider": "CPUExecutionProvider", "node_index": str(node.index)}
            self._add("Node", f"{node.label}_kernel_time", last, {**more, "output_type_shape": shapes})
            last = time.perf_counter_ns()

        yield hook
        self._add("Session", "model_run", begin, {})

    def write(self) -> str:
        """Write the events and return the path. Raises InputError if it can't be written."""
        try:
            with open(self._path, "w", encoding="utf-8") as file:
                json.dump(self._events, file)
        except OSError as error:
            raise InputError(f"{self._path}: can't be written: {error.strerror}") from None
        if self._dropped:
            warnings.warn(f"{self._path}: has {_MOST} events, {self._dropped} later ones were dropped", stacklevel=3)
        return self._path

    def _add(self, category: str, name: str, begin: int, more: dict[str, Any]) -> None:
        if len(self._events) >= _MOST:
            self._dropped += 1
            return
        times = {"dur": (time.perf_counter_ns() - begin) // 1000, "ts": (begin - self._begin) // 1000}
        place = {"pid": os.getpid(), "tid": os.getpid()}
        self._events.append({"cat": category, **place, **times, "ph": "X", "name": name, "args": more})
