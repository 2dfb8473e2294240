"""The onnxruntime-compatible session."""

from __future__ import annotations

import enum
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinyonnx.dtypes import from_onnx_type, onnx_type
from tinyonnx.errors import InputError
from tinyonnx.executor import Hook, execute
from tinyonnx.ir import Array, ConstantPool, Graph, Node, Value
from tinyonnx.limits import Limits
from tinyonnx.passes import BASIC, PIPELINE, Rewrite, run_passes
from tinyonnx.plan import Plan, make_plan
from tinyonnx.threads import available

PLANS_KEPT = 8
"""How many plans (one per set of input shapes and outputs) a session keeps."""


class GraphOptimizationLevel(enum.IntEnum):
    """onnxruntime's levels; all but ORT_DISABLE_ALL mean the whole pipeline here."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(enum.IntEnum):
    """onnxruntime's execution modes; accepted, steps always run one after the other."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class SessionOptions:
    """onnxruntime's options by their names; what has no meaning here is accepted and ignored.

    Attributes:
        graph_optimization_level: ORT_DISABLE_ALL runs the nodes of the file one by one in
            numpy; anything else runs the pass pipeline and the kernels.
        intra_op_num_threads: threads that share each kernel's work, at most one per
            processor; 0 means all processors.
        limits: what a model may use (`tinyonnx.Limits`).
    """

    def __init__(self) -> None:
        self.intra_op_num_threads = 0
        self.inter_op_num_threads = 0
        self.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_ALL
        self.execution_mode = ExecutionMode.ORT_SEQUENTIAL
        self.log_severity_level = 2
        self.log_verbosity_level = 0
        self.logid = ""
        self.enable_cpu_mem_arena = True
        self.enable_mem_pattern = True
        self.enable_mem_reuse = True
        self.enable_profiling = False
        self.use_deterministic_compute = True
        self.limits = Limits()
        self._config: dict[str, str] = {}

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Remember a configuration entry (none has an effect)."""
        self._config[key] = value

    def get_session_config_entry(self, key: str) -> str:
        """A configuration entry; raises KeyError if it was never set."""
        return self._config[key]


@dataclass(frozen=True)
class NodeArg:
    """An input or output: name, type such as ``tensor(float)``, shape with symbolic names as strings."""

    name: str
    type: str
    shape: list[int | str | None]


@dataclass(frozen=True)
class ModelMetadata:
    """What the file says of itself."""

    producer_name: str = ""
    graph_name: str = ""
    domain: str = ""
    description: str = ""
    graph_description: str = ""
    version: int = 0
    custom_metadata_map: dict[str, str] = field(default_factory=dict)


class InferenceSession:
    """A loaded model, ready to run.

    Args:
        path_or_bytes: an ONNX file, or its content.
        sess_options: see `SessionOptions`.
        providers: accepted; everything runs on the CPU.

    Raises:
        ModelError: the model can't be loaded.
    """

    def __init__(
        self,
        path_or_bytes: str | os.PathLike[str] | bytes | bytearray | memoryview,
        sess_options: SessionOptions | None = None,
        providers: Sequence[Any] | None = None,
        **ignored: Any,
    ) -> None:
        from tinyonnx.load import load

        self._options = sess_options or SessionOptions()
        if isinstance(path_or_bytes, (bytearray, memoryview)):
            path_or_bytes = bytes(path_or_bytes)
        self._name = "<bytes>" if isinstance(path_or_bytes, bytes) else os.fspath(path_or_bytes)
        self._graph = load(path_or_bytes, self._options.limits)
        self._values = self._graph.values()
        self._pool = ConstantPool()
        for node in (None, *self._graph.walk()):
            for array in _constants(self._graph, node):
                self._pool.adopt(array)
        self._plans: OrderedDict[Any, Plan] = OrderedDict()
        self._lock = threading.Lock()
        _sessions.add(self)

    @property
    def graph(self) -> Graph:
        """The graph as loaded; not to be edited."""
        return self._graph

    def get_inputs(self) -> list[NodeArg]:
        """The inputs that `run` needs."""
        return [_node_arg(v, v.name) for v in self._graph.inputs]

    def get_outputs(self) -> list[NodeArg]:
        """The outputs that `run(None, …)` gives."""
        return [_node_arg(v, n) for v, n in zip(self._graph.outputs, self._graph.output_names, strict=True)]

    def get_modelmeta(self) -> ModelMetadata:
        """What the file says of itself."""
        data = self._graph.metadata
        return ModelMetadata(
            producer_name=data.get("producer_name", ""),
            graph_name=data.get("graph_name", ""),
            domain=data.get("domain", ""),
            description=data.get("description", ""),
            graph_description=data.get("graph_description", ""),
            version=int(data.get("model_version") or 0),
            custom_metadata_map={
                key.removeprefix("custom:"): value for key, value in data.items() if key.startswith("custom:")
            },
        )

    def get_providers(self) -> list[str]:
        """Always the CPU."""
        return ["CPUExecutionProvider"]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """There are none."""
        return {"CPUExecutionProvider": {}}

    def set_providers(self, providers: Sequence[Any] | None = None, provider_options: Any = None) -> None:
        """Accepted; everything runs on the CPU."""

    def get_session_options(self) -> SessionOptions:
        """The options of this session."""
        return self._options

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: object = None
    ) -> list[Any]:
        """Run the model.

        Args:
            output_names: any tensors of the graph by name, outputs or intermediate ones;
                None or an empty list for all outputs.
            input_feed: an array per input.
            run_options: accepted and ignored.

        Returns:
            One array (or list, for a sequence) per name; each owns its memory.

        Raises:
            InputError: a feed or a requested name doesn't fit the model.
            NodeError: an operator failed.
            ResourceError: a limit was reached.
        """
        plan, feeds = self._prepare(output_names, input_feed)
        return execute(plan, feeds)

    def trace(self, input_feed: Mapping[str, Any], hook: Hook) -> list[Any]:
        """Run the model and call `hook(node, outputs)` after every node of the plan.

        The arrays given to the hook may be overwritten by the next node: copy what you keep.
        Returns all outputs. Raises what `run` raises.
        """
        plan, feeds = self._prepare(None, input_feed)
        return execute(plan, feeds, hook)

    def plan_for(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any]) -> Plan:
        """The plan that `run` would use with these arguments. Raises what `run` raises."""
        return self._prepare(output_names, input_feed)[0]

    # -- preparation --------------------------------------------------------------------

    def _prepare(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any]) -> tuple[Plan, list[Any]]:
        feeds = self._check_feeds(input_feed)
        if isinstance(output_names, str):
            raise InputError(f"{self._name}: output names must be a list, not {output_names!r}")
        names = tuple(output_names or ())
        level = self._options.graph_optimization_level
        key = (names, level, tuple(_signature(feed) for feed in feeds))
        with self._lock:
            plan = self._plans.get(key)
            if plan is None:
                plan = self._make_plan(names, feeds, optimise=level != GraphOptimizationLevel.ORT_DISABLE_ALL)
                self._plans[key] = plan
                while len(self._plans) > PLANS_KEPT:
                    self._plans.popitem(last=False)
            self._plans.move_to_end(key)
        return plan, feeds

    def _make_plan(self, names: tuple[str, ...], feeds: list[Any], optimise: bool) -> Plan:
        graph = self._graph.clone()
        if names:
            self._request(graph, names)
        for value, feed in zip(graph.inputs, feeds, strict=True):
            is_tensor = isinstance(feed, np.ndarray)
            value.dtype, value.shape = (feed.dtype, feed.shape) if is_tensor else (None, None)
        name = os.path.basename(self._name) or self._name
        rewrite = Rewrite(graph, self._pool, self._options.limits, name, [])
        run_passes(rewrite, PIPELINE if optimise else BASIC)
        plan = make_plan(graph, model=name, limits=self._options.limits, pool=self._pool, kernels=optimise)
        plan.remarks = rewrite.remarks
        plan.threads = self._threads()
        return plan

    def _threads(self) -> int:
        wanted = self._options.intra_op_num_threads
        return min(wanted, available()) if wanted > 0 else available()

    def _request(self, graph: Graph, names: tuple[str, ...]) -> None:
        """Make the named values the outputs of the graph."""
        values = graph.values()
        values.update(zip(graph.output_names, graph.outputs, strict=True))
        unknown = [n for n in names if n not in values]
        if unknown:
            raise InputError(
                f"{self._name}: no tensor is called {', '.join(map(repr, unknown))}; "
                f"the outputs are {', '.join(map(repr, graph.output_names))}"
            )
        graph.clear_outputs()
        for name in names:
            graph.add_output(values[name], name)

    def _check_feeds(self, input_feed: Mapping[str, Any]) -> list[Any]:
        if not isinstance(input_feed, Mapping):
            raise InputError(f"{self._name}: the feeds must be a dict of arrays by input name")
        expected = [v.name for v in self._graph.inputs]
        unknown = [n for n in input_feed if n not in expected]
        missing = [n for n in expected if n not in input_feed]
        if unknown or missing:
            parts = [f"unknown {', '.join(map(repr, unknown))}"] if unknown else []
            parts += [f"missing {', '.join(map(repr, missing))}"] if missing else []
            raise InputError(f"{self._name}: inputs are {', '.join(map(repr, expected))}: {'; '.join(parts)}")
        return [self._check_feed(v, input_feed[v.name]) for v in self._graph.inputs]

    def _check_feed(self, value: Value, feed: Any) -> Any:
        where = f'{self._name}: input "{value.name}"'
        wanted = value.type or ""
        if not wanted.startswith("tensor("):
            return [np.asarray(item) for item in feed] if isinstance(feed, (list, tuple)) else feed
        if not isinstance(feed, (np.ndarray, np.generic, list, tuple, int, float, bool, str)):
            raise InputError(f"{where} expects an array, got {type(feed).__name__}")
        try:
            # like onnxruntime: a list takes the type that is wanted, an array has to have it
            of_numbers = isinstance(feed, (list, tuple)) and wanted != "tensor(string)"
            array = np.asarray(feed, from_onnx_type(wanted) if of_numbers else None)
        except (ValueError, TypeError, OverflowError, KeyError) as error:
            raise InputError(f"{where}: {error}") from error
        if array.dtype.kind in "UT" or (array.dtype == object and wanted == "tensor(string)"):
            array = array.astype(object)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        given = onnx_type(array.dtype)
        if given != wanted:
            raise InputError(f"{where} expects {wanted}, got {given or array.dtype}")
        shape = value.shape
        if shape is not None:
            fits = len(shape) == array.ndim and all(
                not isinstance(d, int) or d == n for d, n in zip(shape, array.shape, strict=True)
            )
            if not fits:
                raise InputError(f"{where} expects shape {_dims(shape)}, got {_dims(array.shape)}")
        return array


_sessions: weakref.WeakSet[InferenceSession] = weakref.WeakSet()


def _unlock() -> None:
    """In a forked child the thread that held a lock doesn't exist."""
    for session in _sessions:
        session._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


def _dims(shape: Sequence[int | str | None]) -> str:
    return f"[{', '.join('?' if d is None else str(d) for d in shape)}]"


def _constants(graph: Graph, node: Node | None) -> list[Array]:
    """The initializers of a graph (no node), or those of a node's subgraphs."""
    graphs = [graph] if node is None else node.subgraphs
    return [v.const for g in graphs for v in g.initializers if v.const is not None]


def _signature(feed: Any) -> Any:
    """What a plan depends on of a feed."""
    return (feed.dtype, feed.shape) if isinstance(feed, np.ndarray) else None


def _node_arg(value: Value, name: str) -> NodeArg:
    return NodeArg(name, value.type or "", list(value.shape or ()))
