"""A request that runs in two stages, each with a session of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from typing import Any, Protocol

import numpy as np

from tinyonnx.ir import Graph
from tinyonnx.runtime.budget import Budget
from tinyonnx.runtime.executor import Use
from tinyonnx.runtime.stages import Split, first_stage, second_stage


class StageSession(Protocol):
    """The session of a stage."""

    def run_stage(self, feeds: list[Any], budget: Budget, use: Use | None) -> list[Any]:
        """Run on one value per input, as a part of a run; see `executor.execute`."""


class Stages:
    """The sessions of both stages of a graph.

    Args:
        graph: with the requested outputs; its inputs are fed.
        split: how it is divided.
        session: makes the session of stage 1 or 2.
    """

    def __init__(self, graph: Graph, split: Split, session: Callable[[Graph, int], StageSession]) -> None:
        self._graph, self._split, self._session = graph, split, session
        first, names = first_stage(graph, split)
        self.first = session(first, 1)
        self.second: StageSession | None = None
        self._lock = threading.Lock()
        fed = {value.name: i for i, value in enumerate(graph.inputs)}
        computed = {name: len(split.early) + i for i, name in enumerate(names)}
        # positions of the second stage's inputs: of a feed, or ~position among the first stage's results
        self._sources = [fed[name] if name in fed else ~computed[name] for name in split.names]
        early = {position: i for i, position in enumerate(split.early)}
        late = count()
        ends = [*(graph.outputs[i].name for i in split.early), *names]
        rows = {name: len(ends) + i for i, name in enumerate(split.bounded)}
        self._bounded = [(i, rows[name]) for i, name in enumerate(ends) if name in rows]
        self._results = [early[i] if i in early else ~next(late) for i in range(len(graph.outputs))]

    def run(self, feeds: list[Any], budget: Budget, use: Use | None = None) -> list[Any]:
        """Run on one value per input; see `executor.execute`, whose errors it raises."""

        def finish(found: list[Any]) -> list[Any]:
            for i, rows in self._bounded:
                found[i] = found[i][: int(found[rows][0])]
            # results of this stage are the caller's
            early = found if use is not None else [_copied(x, budget) for x in found[: len(self._split.early)]]
            if not self._sources:
                done = [early[i] for i in self._results]
                return done if use is None else use(done)
            given = [feeds[i] if i >= 0 else found[~i] for i in self._sources]
            budget.next_stage()
            second = self.second or self._make_second(given)

            def join(rest: list[Any]) -> list[Any]:
                return [early[i] if i >= 0 else rest[~i] for i in self._results]

            if use is None:
                return join(second.run_stage(given, budget, None))
            return second.run_stage(given, budget, lambda rest: use(join(rest)))

        return self.first.run_stage(feeds, budget, finish)

    def unlock(self) -> None:
        """Replace locks in a forked child, where the thread that held one does not exist."""
        self._lock = threading.Lock()

    def _make_second(self, given: list[Any]) -> StageSession:
        shapes = [
            (None,) * value.ndim if shape is None and isinstance(value, np.ndarray) else shape
            for shape, value in zip(self._split.shapes, given, strict=True)
        ]
        with self._lock:
            if self.second is None:
                self.second = self._session(second_stage(self._graph, self._split, shapes), 2)
            return self.second


def _copied(result: Any, budget: Budget) -> Any:
    """Copy a tensor, or the tensors of a sequence. Raises ResourceError beyond the limit."""
    if isinstance(result, list):
        return [_copied(item, budget) for item in result]
    if not isinstance(result, np.ndarray):
        return result
    budget.check_room(result.nbytes)
    return result.copy()
