"""`InferenceSession`, with the interface of onnxruntime's."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyonnx.codegen.kernel import DISABLED
from tinyonnx.codegen.processor import has_bfloat16
from tinyonnx.errors import Error, InputError
from tinyonnx.ir import Array, Graph, Node
from tinyonnx.ort.description import ModelMetadata, NodeArg, SessionDescription, warn_of_unavailable
from tinyonnx.ort.feeds import check_feeds, dims_text
from tinyonnx.ort.io_binding import IOBinding
from tinyonnx.ort.options import GraphOptimizationLevel, RunOptions, SessionOptions, threads_of
from tinyonnx.ort.profiling import SessionProfile
from tinyonnx.ort.requests import Repeats, Request, Run, graph_for
from tinyonnx.ort.stages import Stages
from tinyonnx.ort.values import OrtValue
from tinyonnx.runtime.binding import kernels_of
from tinyonnx.runtime.budget import Budget
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.runtime.decisions import Decisions
from tinyonnx.runtime.executor import Use, execute
from tinyonnx.runtime.plan import InvalidData, Plan, Unfit
from tinyonnx.runtime.sized_plans import SizedPlans, make_sized, shapes_of
from tinyonnx.runtime.stages import Split
from tinyonnx.runtime.stored_plan import PlanStore, can_be_stored
from tinyonnx.runtime.trace import Hook, iterate

if TYPE_CHECKING:
    from tinyonnx.codegen.kernel import Kernel
    from tinyonnx.ort.preparation import Preparation
    from tinyonnx.passes import Pass, Rewrite
    from tinyonnx.runtime.sized import SizedPlan
    from tinyonnx.runtime.sized_execution import PlanForSizes, Values

__all__ = ["InferenceSession", "ModelMetadata", "NodeArg"]

PLANS_KEPT = 8
"""Maximum number of plans that a session keeps: one per set of requested outputs and input shapes."""

_DEEPEST = 24
"""Maximum number of stages of a run; whatever remains is planned as a whole."""


class InferenceSession(SessionDescription):
    """A loaded model, ready to run.

    Args:
        path_or_bytes: an ONNX file, or its content.
        sess_options: see `SessionOptions`.
        providers: everything runs on the CPU; a UserWarning names those that are not there.
        provider_options: ignored.

    Raises:
        ModelError: the model can't be loaded.
        InputError: an option doesn't fit the model.
    """

    def __init__(
        self,
        path_or_bytes: str | os.PathLike[str] | bytes | bytearray | memoryview,
        sess_options: SessionOptions | None = None,
        providers: Sequence[Any] | None = None,
        provider_options: Sequence[Any] | None = None,
        **ignored: Any,
    ) -> None:
        begin = time.perf_counter_ns()
        warn_of_unavailable(providers)
        self._given = path_or_bytes, sess_options
        self._options = sess_options or SessionOptions()
        if isinstance(path_or_bytes, (bytearray, memoryview)):
            path_or_bytes = bytes(path_or_bytes)
        self._name = "<bytes>" if isinstance(path_or_bytes, bytes) else os.fspath(path_or_bytes)
        self._sha256: str | None = None
        if isinstance(path_or_bytes, bytes):
            from tinyonnx.onnxfile.load import load

            folder = self._options.external_folder
            given = self._options.external_initializers
            self._graph = load(path_or_bytes, self._options.limits, folder=folder, given=given)
        elif self._options.external_initializers:
            from tinyonnx.onnxfile.load import load

            self._graph = load(self._name, self._options.limits, given=self._options.external_initializers)
        else:
            from tinyonnx.onnxfile import graph_cache

            self._graph, self._sha256 = graph_cache.load(self._name, self._options.limits)
        self._apply_options()
        self._prepare_graph()
        if self._options.enable_profiling:
            self._profile = SessionProfile(self._options.profile_file_prefix, begin)
        if self._options.optimized_model_filepath:
            self._preparation.save_optimised(self._options.optimized_model_filepath)

    @classmethod
    def of_graph(cls, graph: Graph, name: str, sess_options: SessionOptions | None = None) -> InferenceSession:
        """Make a session of a graph that is already loaded; `name` stands for its file in messages."""
        session = cls.__new__(cls)
        session._options = sess_options or SessionOptions()
        session._name, session._sha256, session._graph = name, None, graph
        session._given = name, sess_options
        session._apply_options()
        session._prepare_graph()
        return session

    def _prepare_graph(self) -> None:
        self._decisions = Decisions(self._graph)
        self._repeats = Repeats()
        self._has_stored_plans = True
        self._sized: dict[Any, SizedPlans] = {}
        self._plans: OrderedDict[Any, Plan] = OrderedDict()
        self._pool = ConstantPool()
        self._stages: dict[Any, Stages | None] = {}
        self._undivided: set[Any] = set()
        self._depth, self._part = 0, ""
        self._lock = threading.Lock()
        _sessions.add(self)

    def _apply_options(self) -> None:
        """Fix free dimensions and replace initializers as the options demand. Raises InputError."""
        sizes = self._options.free_dimensions
        for value in (*self._graph.inputs, *self._graph.declared_outputs):
            if value.shape is not None:
                value.shape = tuple(sizes.get(d, d) if isinstance(d, str) else d for d in value.shape)
        initializers = {v.name: v for v in self._graph.initializers}
        for name, array in self._options.replaced_initializers.items():
            array, old = np.asarray(array), initializers.get(name)
            if old is None or old.const is None:
                raise InputError(f'{self._name}: initializer "{name}" to replace does not exist')
            if (old.const.dtype, old.const.shape) != (array.dtype, array.shape):
                expected = f"{old.const.dtype}{dims_text(old.const.shape)}"
                raise InputError(
                    f'{self._name}: initializer "{name}" is {expected}, not {array.dtype}{dims_text(array.shape)}'
                )
            old.const = array.copy()

    def __getstate__(self) -> Any:
        # a subclass that stores its arguments may define how it is pickled
        raise TypeError("an InferenceSession can't be pickled or copied: make one in each process, from the file")

    @property
    def name(self) -> str:
        """The path of the file, or "<bytes>"."""
        return self._name

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of the file's content in hex; None if the session was made from bytes."""
        return self._sha256

    @property
    def precision(self) -> str:
        """The type of the operands of products: "bfloat16", in some layers, if it was asked for and can be used."""
        optimised = self._options.graph_optimization_level != GraphOptimizationLevel.ORT_DISABLE_ALL
        possible = optimised and (DISABLED or has_bfloat16())
        return self._options.precision if possible else "float32"

    @property
    def graph(self) -> Graph:
        """The graph as loaded; it must not be edited."""
        return self._graph

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: RunOptions | None = None
    ) -> list[Any]:
        """Run the model.

        Args:
            output_names: any tensors of the graph by name, outputs or intermediate ones;
                None or an empty list for all outputs.
            input_feed: an array (or OrtValue) per input, and optionally for overridable initializers.
            run_options: see `RunOptions`.

        Returns:
            One array (or list, for a sequence) per name; each owns its memory.

        Raises:
            InputError: a feed or a requested name doesn't fit the model.
            NodeError: an operator failed.
            ResourceError: a limit was exceeded.
        """
        level = self._options.graph_optimization_level
        known = self._repeats.find(output_names, input_feed, level, self._decisions)
        budget = Budget(self._options.limits, run_options)
        if known is not None:
            run, feeds = known
            try:
                return run(feeds, budget, None)
            except (InvalidData, Unfit):
                pass  # the plan for these sizes alone gives the error
        if self._profile is not None:
            return self._run_profiled(self._profile, output_names, input_feed, budget)
        request = self._request(output_names, input_feed)
        results, run = self._run_request(request, budget, None)
        inputs = [v.name for v in self._graph.inputs]
        sized = None if self._stages_for(request) else self._sized.get(request.kind)
        self._repeats.note(output_names, input_feed, run, request, [*inputs, *request.overridden], sized)
        return results

    def run_stage(self, feeds: list[Any], budget: Budget, use: Use | None) -> list[Any]:
        """Run on one value per input, whose types need no check, as a part of a run; see `executor.execute`.

        Raises the errors of `run`.
        """
        known = self._repeats.find_stage(feeds)
        if known is not None:
            try:
                return known(feeds, budget, use)
            except (InvalidData, Unfit):
                pass
        request = Request((), (), self._options.graph_optimization_level, feeds, self._decisions.of(feeds))
        results, run = self._run_request(request, budget, use)
        if not request.decided:
            self._repeats.note_stage(feeds, run)
        return results

    def _run_request(self, request: Request, budget: Budget, use: Use | None) -> tuple[list[Any], Run]:
        """Run; return the results, with the function that runs again on inputs of the same types and shapes."""
        stages = self._stages_for(request)
        if stages is not None:
            return stages.run(request.feeds, budget, use), stages.run
        with self._lock:
            plan = self._plans.get((True, *request.key))
        if plan is None:
            for sized, values in self._sized_plans(request):
                try:
                    results = sized.run(values, request.feeds, budget, use)
                except Unfit:
                    continue
                except InvalidData:
                    break
                self._sized[request.kind].prefer(sized)
                return results, partial(sized.run, values)
        plan, feeds = self._prepare(request)
        stages = self._divide(request, plan)
        if stages is not None:
            return stages.run(feeds, budget, use), stages.run
        results = execute(plan, feeds, budget, use)
        plans = self._sized.get(request.kind)
        if plans is not None and can_be_stored(plan):
            plans.store(shapes_of(feeds), lambda shapes: self._preparation.plan_for_sizes(request, shapes))
        return results, partial(execute, plan)

    def _run_profiled(
        self, profile: SessionProfile, output_names: Sequence[str] | None, input_feed: Mapping[str, Any],
        budget: Budget,
    ) -> list[Any]:  # fmt: skip
        plan, feeds = self._prepare(self._request(output_names, input_feed), by_item=False)
        with profile.run() as hook:
            return execute(plan, feeds, budget, hook=hook)

    def run_with_ort_values(
        self, output_names: Sequence[str] | None, input_dict_ort_values: Mapping[str, OrtValue],
        run_options: RunOptions | None = None,
    ) -> list[OrtValue]:  # fmt: skip
        """Run the model on OrtValues and return OrtValues. See `run`."""
        return [OrtValue(result) for result in self.run(output_names, input_dict_ort_values, run_options)]

    def run_async(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any],
        callback: Callable[[list[Any], Any, str], None], user_data: Any, run_options: RunOptions | None = None,
    ) -> None:  # fmt: skip
        """Run the model on a new thread, which then calls `callback(results, user_data, message)`.

        The message is "" unless the run failed; the results are empty then.
        """

        def work() -> None:
            results, message = [], ""
            try:
                results = self.run(output_names, input_feed, run_options)
            except Error as error:
                message = str(error)
            callback(results, user_data, message)

        threading.Thread(target=work).start()

    def io_binding(self) -> IOBinding:
        """Return a new binding for `run_with_iobinding`."""
        return IOBinding(self)

    def run_with_iobinding(self, iobinding: IOBinding, run_options: RunOptions | None = None) -> None:
        """Run the model on bound inputs and outputs. Raises the errors of `run`."""
        iobinding.run(run_options)

    def trace(self, input_feed: Mapping[str, Any]) -> Iterator[tuple[Node, list[Any]]]:
        """Run the model step by step; yield each node, including those of subgraphs, with its outputs.

        The nodes are those of the plan: with ORT_DISABLE_ALL the file's own, otherwise fused ones whose `origin` names
        the nodes that they replaced. An array may be overwritten as soon as the next node is requested: copy it to keep
        it. Raises the errors of `run`.
        """
        return iterate(lambda hook: self.run_with_hook(input_feed, hook))

    def run_with_hook(self, input_feed: Mapping[str, Any], hook: Hook) -> list[Any]:
        """Run the model, call `hook(node, outputs)` after each node as `trace` yields them, and return all outputs.

        Raises what `run` and the hook raise.
        """
        plan, feeds = self._prepare(self._request(None, input_feed), by_item=False)
        return execute(plan, feeds, hook=hook)

    def plan_for(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], by_item: bool = True
    ) -> Plan:  # fmt: skip
        """Return the plan that `run`, or a run with a hook if not `by_item`, uses for these arguments.

        Raises the errors of `run`.
        """
        return self._prepare(self._request(output_names, input_feed), by_item)[0]

    def native_plan_for(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any]) -> Plan:
        """Return a plan of native code for all values of inputs of these shapes. Raises the errors of `run`."""
        return self._preparation.plan(self._request(output_names, input_feed, decide=False), native=True)

    def kernels_for(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any]
    ) -> list[tuple[Kernel, str]]:  # fmt: skip
        """Return the kernels that a run needs, with the kinds of their arguments; none is compiled.

        Raises the errors of `run` of its feeds.
        """
        return kernels_of(self._preparation.plan(self._request(output_names, input_feed)))

    def plan_for_sizes(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], axes: Mapping[str, int]
    ) -> SizedPlan:
        """Return a plan for every size of one axis of each of these inputs, all of the same size.

        Raises SizeError or Unfit where there is none, and the errors of `run` of its feeds.
        """
        request = self._request(output_names, input_feed, decide=False)
        shapes = shapes_of(request.feeds)
        names = [v.name for v in self._graph.inputs]
        group = [(names.index(name), axis % len(shapes[names.index(name)])) for name, axis in axes.items()]
        return make_sized(shapes, [group], lambda shapes: self._preparation.plan_for_sizes(request, shapes))

    def operand_means(self) -> Mapping[str, Array]:
        """Return the means of the operands of products, which correct the biases of rounded weights."""
        return self._preparation.means

    def round_weights(self, means: Mapping[str, Array]) -> None:
        """Round weights to bfloat16 in all plans made from now on.

        `means` are the `operand_means` of another session of the same model. The other operands of the products are
        rounded where `precision` is "bfloat16".
        """
        self._preparation.round_weights(means)
        self._has_stored_plans = False

    def rewrite(self, input_feed: Mapping[str, Any], passes: list[Pass] | None = None) -> Rewrite:
        """Return a copy of the graph for these input shapes after some passes (None for all), and their remarks.

        Raises the errors of `run` for its feeds.
        """
        inputs, feeds = check_feeds(self._graph, input_feed, self._name)
        return self._preparation.rewrite(tuple(inputs[len(self._graph.inputs) :]), feeds, passes)

    # -- preparation --------------------------------------------------------------------

    @cached_property
    def _preparation(self) -> Preparation:
        # imported when needed: a stored plan runs without passes
        from tinyonnx.ort.preparation import Preparation

        return Preparation(self._graph, self._name, self._options, lambda: self.precision, self._pool)

    def _request(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], decide: bool = True
    ) -> Request:
        inputs, feeds = check_feeds(self._graph, input_feed, self._name)
        if isinstance(output_names, str):
            raise InputError(f"{self._name}: output names must be a list, not {output_names!r}")
        names = () if output_names is None else tuple(output_names)
        for name in names:
            if not isinstance(name, str):
                raise InputError(f"{self._name}: output names must be strings, got {name!r}")
        level = self._options.graph_optimization_level
        decided = self._decisions.of(feeds) if decide and level != GraphOptimizationLevel.ORT_DISABLE_ALL else ()
        return Request(names, tuple(inputs[len(self._graph.inputs) :]), level, feeds, decided)

    def _prepare(self, request: Request, by_item: bool = True) -> tuple[Plan, list[Any]]:
        with self._lock:
            plan = self._planned((True, *request.key), lambda: self._preparation.plan(request))
            if plan.runs and not by_item:
                plan = self._planned((False, *request.key), lambda: self._preparation.plan(request, by_item=False))
        return plan, request.feeds

    def _sized_plans(self, request: Request) -> Iterator[tuple[PlanForSizes, Values]]:
        """Return plans for many sizes that may fit these feeds; none for the first sizes of a session."""
        if not request.optimise or DISABLED:
            return iter(())
        shapes = shapes_of(request.feeds)
        plans = self._sized.get(request.kind)
        if plans is None:
            values = {v.name: v.shape or () for v in (*self._graph.inputs, *self._graph.overridable)}
            names = [values[name] for name in (*(v.name for v in self._graph.inputs), *request.overridden)]
            with self._lock:
                plans = self._sized.setdefault(request.kind, SizedPlans(shapes, names, self._store(request)))
        return plans.candidates(shapes, lambda shapes: self._preparation.plan_for_sizes(request, shapes))

    # -- stages -------------------------------------------------------------------------

    def _stages_for(self, request: Request) -> Stages | None:
        """Return the stages in which requests of this kind run; None if they don't, or that is not known yet."""
        if request.kind not in self._stages:
            store = self._store(request) if request.optimise else None
            split = None if store is None else store.read_split()
            with self._lock:
                self._stages.setdefault(request.kind, None if split is None else self._stages_of(request, split))
        return self._stages[request.kind]

    def _divide(self, request: Request, plan: Plan) -> Stages | None:
        """Divide a request into stages, for all later runs, if steps of its plan lack kernels for want of shapes."""
        if not plan.lacks_shapes or request.kind in self._undivided or self.precision != "float32":
            return None
        split = self._preparation.split(request) if self._depth < _DEEPEST else None
        if split is None:
            self._undivided.add(request.kind)
            return None
        with self._lock:
            self._plans.pop((True, *request.key), None)
            stages = self._stages.get(request.kind)
            if stages is None:
                stages = self._stages[request.kind] = self._stages_of(request, split)
        store = self._store(request)
        if store is not None:
            store.write_split(split)
        return stages

    def _stages_of(self, request: Request, split: Split) -> Stages:
        def session(graph: Graph, part: int) -> InferenceSession:
            stage = InferenceSession.__new__(InferenceSession)
            stage._options, stage._name, stage._sha256, stage._graph = self._options, self._name, self._sha256, graph
            stage._given = self._given
            stage._prepare_graph()
            stage._pool = self._pool
            stage._has_stored_plans = self._has_stored_plans
            stage._depth, stage._part = self._depth + 1, f"{self._part} {part} of {request.variant} {split}"
            return stage

        return Stages(graph_for(self._graph, self._name, *request.variant), split, session)

    def _store(self, request: Request) -> PlanStore | None:
        """Return the stored plans for requests of this kind; None if the session isn't of an unchanged cached file."""
        options = self._options
        changed = options.free_dimensions or options.replaced_initializers
        if self._sha256 is None or not self._has_stored_plans or changed or request.overridden:
            return None
        from tinyonnx.onnxfile import graph_cache

        key = graph_cache.key_of(self._sha256, options.limits)
        if key is None:
            return None
        key = f"{key} {self.precision} {request.kind}{self._part}"
        return PlanStore(key, os.path.basename(self._name), options.limits, threads_of(options))

    def _planned(self, key: tuple[Any, ...], make: Callable[[], Plan]) -> Plan:
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = make()
            while len(self._plans) > PLANS_KEPT:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return plan


_sessions: weakref.WeakSet[InferenceSession] = weakref.WeakSet()


def _unlock() -> None:
    """Replace the locks in a forked child, where the thread that held one does not exist."""
    for session in _sessions:
        session._lock = threading.Lock()
        session._decisions.unlock()
        for plans in session._sized.values():
            plans.unlock()
        for stages in session._stages.values():
            if stages is not None:
                stages.unlock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)
