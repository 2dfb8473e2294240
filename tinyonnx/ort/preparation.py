"""Plans of a session's graph: a copy with the requested outputs is rewritten by the passes and planned."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tinyonnx.errors import InputError
from tinyonnx.ir import Array, Graph, Node
from tinyonnx.ort.options import SessionOptions, threads_of
from tinyonnx.ort.requests import Request, graph_for
from tinyonnx.passes import BASIC, EXPRESSIBLE, PIPELINE, Pass, Rewrite, run_passes
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.runtime.decisions import Decided
from tinyonnx.runtime.plan import Plan
from tinyonnx.runtime.planner import make_plan
from tinyonnx.runtime.shape_independent import ShapeIndependentRewrites
from tinyonnx.runtime.sized_plans import shapes_of
from tinyonnx.runtime.stages import Split, find_split


class Preparation:
    """Rewrites and plans copies of a graph; all of them share the constants that derive from the graph's own.

    Args:
        graph: the graph as loaded.
        name: of its file, in messages.
        options: of the session.
        precision: gives that of the operands of products, "float32" or "bfloat16", which options may change.
        pool: has the constants that derive from the graph's.
    """

    def __init__(
        self, graph: Graph, name: str, options: SessionOptions, precision: Callable[[], str], pool: ConstantPool
    ) -> None:
        self._graph, self._name, self._options, self._precision = graph, name, options, precision
        self._rewrites = ShapeIndependentRewrites()
        self._pool = pool
        self._given_means: Mapping[str, Array] | None = None
        for node in (None, *graph.walk()):
            for array in _constants(graph, node):
                self._pool.adopt(array)

    def plan(self, request: Request, by_item: bool = True, native: bool = False) -> Plan:
        """Make a plan for the sizes of a request, for `native` code or a session. Raises the errors of planning."""
        kind, feeds = request.variant, request.feeds
        if request.optimise:
            rewrite = self._rewrites.rewrite(
                kind,
                lambda: self._copy(*kind),
                lambda graph: self._run_passes(graph, PIPELINE),
                lambda graph: self._run_passes(_sized(graph, feeds), PIPELINE),
            )
        else:
            rewrite = self._run_passes(_sized(self._copy(*kind), feeds), BASIC)
        plan = make_plan(
            rewrite.graph,
            model=rewrite.model,
            limits=self._options.limits,
            pool=self._pool,
            kernels=request.optimise,
            by_item=by_item,
            native=native,
        )
        plan.remarks = rewrite.remarks
        self._set_threads(plan)
        return plan

    def plan_for_sizes(self, request: Request, shapes: Sequence[tuple[Any, ...]]) -> Plan:
        """Make a plan for inputs of these shapes, some of whose sizes are symbols. Raises the errors of planning."""
        graph = self._copy(*request.variant)
        rewrite = self._run_passes(_sized(graph, request.feeds, shapes), PIPELINE)
        plan = make_plan(rewrite.graph, model=rewrite.model, limits=self._options.limits, pool=self._pool)
        self._set_threads(plan)
        return plan

    def _set_threads(self, plan: Plan) -> None:
        for each in plan.with_bodies():
            each.threads = threads_of(self._options)

    def rewrite(self, overridden: tuple[str, ...], feeds: list[Any], passes: list[Pass] | None) -> Rewrite:
        """Rewrite a copy of the graph for these inputs by some passes, None for all."""
        return self._run_passes(_sized(self._copy((), overridden, ()), feeds), PIPELINE if passes is None else passes)

    def save_optimised(self, path: str) -> None:
        """Write the model with constants and normalisations folded, for any size of its inputs. Raises InputError."""
        from tinyonnx.onnxfile.save import save

        try:
            save(self._run_passes(self._graph.clone(), EXPRESSIBLE).graph, path)
        except OSError as error:
            raise InputError(f"{path}: can't be written: {error.strerror}") from None

    def _copy(self, names: tuple[str, ...], overridden: tuple[str, ...], decided: Decided) -> Graph:
        return graph_for(self._graph, self._name, names, overridden, decided)

    def split(self, request: Request) -> Split | None:
        """Return how to divide the graph of a request into stages; None if that makes no sense."""
        graph = self._copy(*request.variant)
        inferred = graph.clone()
        values = inferred.values()  # keeps those alive that shape inference replaces, because ids identify them
        self._run_passes(_sized(inferred, request.feeds), BASIC)
        return find_split(graph, inferred, {id(value): name for name, value in values.items()})

    def round_weights(self, means: Mapping[str, Array]) -> None:
        """Round weights in all plans from now on, and correct biases with these means."""
        self._given_means = means

    @cached_property
    def means(self) -> Mapping[str, Array]:
        """The means that `calibration.input_means` finds."""
        from tinyonnx.ort.calibration import input_means

        return input_means(self._graph, self._name, self._options)

    def _run_passes(self, graph: Graph, passes: list[Pass]) -> Rewrite:
        name = os.path.basename(self._name) or self._name
        rewrite = Rewrite(graph, self._pool, self._options.limits, name, [])
        rewrite.rounds_operands = self._precision() == "bfloat16"
        if self._given_means is not None:
            rewrite.input_means = self._given_means
        elif rewrite.rounds_operands:
            rewrite.input_means = self.means
        run_passes(rewrite, passes)
        return rewrite


def _sized(graph: Graph, feeds: list[Any], shapes: Sequence[tuple[Any, ...]] | None = None) -> Graph:
    """Return the graph with the dtypes and shapes of these inputs."""
    for value, feed, shape in zip(graph.inputs, feeds, shapes_of(feeds) if shapes is None else shapes, strict=True):
        is_tensor = isinstance(feed, np.ndarray)
        value.dtype, value.shape = (feed.dtype, shape) if is_tensor else (None, None)
    return graph


def _constants(graph: Graph, node: Node | None) -> list[Array]:
    """Return the initializers of a graph (`node` is None), or those of a node's subgraphs."""
    graphs = [graph] if node is None else node.subgraphs
    return [v.const for g in graphs for v in g.initializers if v.const is not None]
