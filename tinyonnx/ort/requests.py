"""Requests to run, and runs that repeat: feeds of the types and shapes of an earlier run go to its plan at once.

So do feeds of other sizes if one plan holds for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np

from tinyonnx.errors import InputError
from tinyonnx.ir import Graph
from tinyonnx.ort.options import GraphOptimizationLevel
from tinyonnx.runtime.budget import Budget
from tinyonnx.runtime.decisions import Decided, Decisions, fix_inputs
from tinyonnx.runtime.executor import Use
from tinyonnx.runtime.sized_plans import Shapes, SizedPlans, shapes_of


class Request:
    """A request to run: outputs (empty for all), fed initializers, all inputs, and the values that specialise its plan.

    `key` distinguishes requests that need separate plans, `kind` those that differ in more than sizes.
    """

    def __init__(
        self, names: tuple[str, ...], overridden: tuple[str, ...], level: GraphOptimizationLevel, feeds: list[Any],
        decided: Decided,
    ) -> None:  # fmt: skip
        self.names, self.overridden, self.level = names, overridden, level
        self.feeds, self.decided = feeds, decided
        self.variant = names, overridden, decided
        self.optimise = level != GraphOptimizationLevel.ORT_DISABLE_ALL
        self.key = (names, level, overridden, decided, tuple(_type(feed) for feed in feeds))
        self.kind = (names, level, overridden, decided, tuple(_type_for_any_size(feed) for feed in feeds))

    def without_feeds(self) -> Request:
        """Return the request without the values of its inputs, to be kept."""
        kept = copy(self)
        kept.feeds = []
        return kept


def graph_for(graph: Graph, file: str, names: tuple[str, ...], overridden: tuple[str, ...], decided: Decided) -> Graph:
    """Return a copy of the graph with these outputs (empty: its own).

    Fed initializers become inputs; inputs whose values the plan is made for become constants. Raises InputError, which
    begins with `file`, for an unknown name.
    """
    copied = graph.clone()
    fix_inputs(copied, decided)
    for name in overridden:
        copied.override(name)
    if names:
        _set_outputs(copied, file, names)
    return copied


def _set_outputs(graph: Graph, file: str, names: tuple[str, ...]) -> None:
    """Make the named values the outputs of the graph. Raises InputError for an unknown name."""
    values = graph.values()
    values.update(zip(graph.output_names, graph.outputs, strict=True))
    unknown = [n for n in names if n not in values]
    if unknown:
        raise InputError(
            f"{file}: no tensor is called {', '.join(map(repr, unknown))}; "
            f"the outputs are {', '.join(map(repr, graph.output_names))}"
        )
    graph.clear_outputs()
    for name in names:
        graph.add_output(values[name], name)


_KEPT = 8
"""Maximum number of kinds of feeds, and of sets of shapes of each; when it is reached, all are forgotten and noted
anew."""


Run = Callable[[list[Any], Budget, Use | None], list[Any]]
"""Runs a plan on one value per input."""


class _Noted(NamedTuple):
    """Feeds of one kind: the first request, names of its inputs in order, plans by shapes, plans for many sizes."""

    request: Request
    inputs: list[str]
    runs: dict[Shapes, Run]
    sized: SizedPlans | None


class Repeats:
    """Plans by names of outputs, and names, types and shapes of feeds."""

    def __init__(self) -> None:
        self._noted: dict[Any, _Noted] = {}
        self._stages: dict[Any, Run] = {}

    def find(
        self, output_names: Sequence[str] | None, feeds: Mapping[str, Any], level: GraphOptimizationLevel,
        decisions: Decisions,
    ) -> tuple[Run, list[Any]] | None:  # fmt: skip
        """Return the plan for these feeds, and the feeds in order.

        None if there is none yet, or they must be checked.
        """
        noted = self._noted.get(_signature(output_names, feeds))
        if noted is None or noted.request.level != level:
            return None
        values = [feeds[name] for name in noted.inputs]
        if decisions.of(values) != noted.request.decided:
            return None
        shapes = tuple([value.shape for value in values])
        run = noted.runs.get(shapes)
        if run is None and noted.sized is not None:
            run = noted.sized.only_run(shapes)
        return None if run is None else (run, values)

    def find_stage(self, feeds: list[Any]) -> Run | None:
        """Return the plan of a stage for values of these types and shapes; None if there is none yet."""
        return self._stages.get(_signature_of_stage(feeds))

    def note_stage(self, feeds: list[Any], run: Run) -> None:
        """Note the plan of a stage for values of these types and shapes."""
        _keep(self._stages, _signature_of_stage(feeds), run)

    def note(
        self, output_names: Sequence[str] | None, feeds: Mapping[str, Any], run: Run, request: Request,
        inputs: list[str], sized: SizedPlans | None,
    ) -> None:  # fmt: skip
        """Note the plan of a request, and the names of its inputs; not if feeds were converted.

        `sized` has the plans for other sizes, if any.
        """
        signature = _signature(output_names, feeds)
        if signature is None or any(feeds[name] is not value for name, value in zip(inputs, request.feeds)):
            return
        noted = self._noted.get(signature)
        if noted is None or noted.request.kind != request.kind or noted.sized is not sized:
            noted = _Noted(request.without_feeds(), inputs, {}, sized)
            _keep(self._noted, signature, noted)
        _keep(noted.runs, shapes_of(request.feeds), run)


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> None:
    """Add an entry, after removing all others if there are too many."""
    if len(kept) >= _KEPT:
        kept.clear()
    kept[key] = value


def _signature_of_stage(feeds: list[Any]) -> Any:
    return tuple([(feed.dtype, feed.shape) if type(feed) is np.ndarray else type(feed) for feed in feeds])


def _signature(output_names: Sequence[str] | None, feeds: Mapping[str, Any]) -> Any:
    """Return names, types and ranks; None for names that aren't strings and feeds that aren't numeric arrays."""
    if type(feeds) is not dict or not isinstance(output_names, list | tuple | None):
        return None
    for name in output_names or ():
        if type(name) is not str:
            return None
    parts: list[Any] = [None if output_names is None else tuple(output_names)]
    for name, feed in feeds.items():
        if type(feed) is not np.ndarray or feed.dtype.kind == "O":
            return None
        parts += name, feed.dtype, feed.ndim
    return tuple(parts)


def _type(feed: Any) -> Any:
    """Return the part of a feed that a plan depends on."""
    return (feed.dtype, feed.shape) if isinstance(feed, np.ndarray) else None


def _type_for_any_size(feed: Any) -> Any:
    """Return the part of a feed that a plan for all sizes depends on."""
    return (feed.dtype, feed.ndim) if isinstance(feed, np.ndarray) else None
