"""Call one operator: its shape rule at planning time, its numpy function at run time.

No other module turns an operator's bare `OpError` into a `NodeError` with file, node, cause and inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyonnx.errors import Error, NodeError, OpError, ResourceError
from tinyonnx.ir import Graph, Node, Value
from tinyonnx.limits import HOW_TO_RAISE_IT, MAX_RANK, Limits
from tinyonnx.onnxfile.schemas import misfit
from tinyonnx.registry import Info, Op, find, lookup
from tinyonnx.runtime.budget import Budget

VIEWS = frozenset(
    ("Cast", "Concat", "Dropout", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
     "Unsqueeze")
)  # fmt: skip
"""Operators whose results may be views of their inputs, which take no memory."""

_SHORT = {"float": "f", "bfloat": "bf", "int": "i", "uint": "u", "complex": "c"}


def describe(value: Any) -> str:
    """Return a short form of a type: ``f32[1,16,64,500]``, ``seq(3)``, ``-`` for an absent input."""
    if value is None:
        return "-"
    if isinstance(value, (np.ndarray, Info, Value)):
        dtype = "?" if value.dtype is None else value.dtype.name
        if dtype == "object":
            dtype = "str"
        stem = dtype.rstrip("0123456789")
        dtype = _SHORT[stem] + dtype[len(stem) :] if stem in _SHORT else dtype
        return f"{dtype}[{'?' if value.shape is None else ','.join(map(str, value.shape))}]"
    if isinstance(value, list):
        return f"seq({len(value)})"
    return type(value).__name__


def node_error(model: str, node: Node, cause: object, inputs: Sequence[Any]) -> NodeError:
    """Make the error of a node: file, operator, name, index, opset, cause, and types of the inputs."""
    op = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    where = f'{model}: {op} "{node.label}" (node {node.index}, opset {node.opset})'
    return NodeError(f"{where}: {cause}; inputs {', '.join(map(describe, inputs)) or 'none'}")


class OpContext:
    """The `registry.Context` of one node in one run."""

    def __init__(
        self,
        node: Node,
        limits: Limits,
        budget: Budget | None = None,
        run_graph: Callable[[Graph, list[Any]], list[Any]] | None = None,
    ) -> None:
        self.opset = node.opset
        self.n_outputs = len(node.outputs)
        self._limits = limits
        self._budget = budget or Budget(limits)
        self._run_graph = run_graph

    def run_graph(self, graph: Graph, inputs: list[Any]) -> list[Any]:
        if self._run_graph is None:
            raise OpError("subgraphs can't run at planning time")
        return self._run_graph(graph, inputs)

    def check_size(self, shape: tuple[int, ...], dtype: Any) -> None:
        too_much = _too_much(shape, np.dtype(dtype), self._limits)
        if too_much is not None:
            raise ResourceError(f"a tensor of shape {list(map(int, shape))} {too_much}")

    def keep(self, value: Any) -> None:
        self._budget.hold(value)

    def tick(self) -> None:
        self._budget.count_iteration()


def check_sizes(model: str, node: Node, outputs: Sequence[Info | None], inputs: Sequence[Any], limits: Limits) -> None:
    """Raise ResourceError if an output, as far as its shape and dtype are known, is over the limit."""
    for info in outputs:
        if info is None or info.shape is None or info.dtype is None:
            continue
        too_much = _too_much(info.shape, info.dtype, limits)
        if too_much is not None:
            cause = f"its output {describe(info)} {too_much}"
            raise ResourceError(str(node_error(model, node, cause, inputs)))


def _too_much(shape: Sequence[int], dtype: np.dtype[Any], limits: Limits) -> str | None:
    if len(shape) > MAX_RANK:
        return f"has rank {len(shape)}, supported are up to {MAX_RANK}"
    # the other dimensions of an empty tensor count, too, because numpy multiplies them and operators loop over them
    size = math.prod(dim if dim > 0 else 1 for dim in shape) * dtype.itemsize
    if size <= limits.max_tensor_bytes:
        return None
    takes = "would take, weren't it empty," if 0 in shape else "takes"
    limit = f"the limit max_tensor_bytes is {limits.max_tensor_bytes}; {HOW_TO_RAISE_IT}"
    return f"{takes} {size} bytes, {limit}"


def evaluate(
    model: str, node: Node, inputs: Sequence[Any], ctx: OpContext | None, compiled: Callable[..., Any] | None = None
) -> list[Any]:  # fmt: skip
    """Run the node's operator on arrays; one entry per output of the node. `ctx` may be None if it takes none.

    `compiled` takes the place of the operator's function. Raises NodeError, ResourceError.
    """
    wrong = misfit(node, inputs)
    if wrong is not None:
        raise node_error(model, node, wrong, inputs)
    return apply(model, node, lookup(node.domain, node.op_type, node.opset), inputs, ctx, compiled)


def apply(
    model: str, node: Node, op: Op, inputs: Sequence[Any], ctx: OpContext | None, compiled: Callable[..., Any] | None
) -> list[Any]:  # fmt: skip
    """Run the node's operator as `evaluate` does, on inputs whose types are known to be valid."""
    while inputs and inputs[-1] is None:
        inputs = inputs[:-1]
    if len(inputs) < op.min_inputs:
        raise node_error(model, node, f"has {len(inputs)} of {op.min_inputs} required inputs", inputs)
    function = compiled or op.function
    try:
        result = function(ctx, *inputs, **node.attributes) if op.takes_ctx else function(*inputs, **node.attributes)
    except ResourceError as error:
        raise ResourceError(str(node_error(model, node, error, inputs))) from error
    except Error:
        raise
    except MemoryError as error:
        raise ResourceError(str(node_error(model, node, "out of memory", inputs))) from error
    except RecursionError as error:
        raise ResourceError(str(node_error(model, node, "nested too deep", inputs))) from error
    except OpError as error:
        raise node_error(model, node, error, inputs) from error
    except Exception as error:
        cause = f"can't be computed for these inputs ({type(error).__name__}: {error})"
        raise node_error(model, node, cause, inputs) from error
    results = list(result) if isinstance(result, tuple) else [result]
    if len(results) < len(node.outputs):
        raise node_error(model, node, f"gives {len(results)} outputs, the model has {len(node.outputs)}", inputs)
    return results[: len(node.outputs)]


def infer(node: Node, inputs: Sequence[Info | None], limits: Limits) -> list[Info | None]:
    """Infer type and shape of each output by the node's shape rule; None where unknown.

    If the rule fails, the inputs have wrong types or the operator is unknown, all outputs are unknown: the operator,
    when run, raises the error for the user.
    """
    nothing: list[Info | None] = [None] * len(node.outputs)
    op = find(node.domain, node.op_type, node.opset)
    if op is None or misfit(node, inputs) is not None:
        return nothing
    try:
        result = _by_rule(op, node, inputs, limits)
    except Exception:
        return nothing
    results = [result] if result is None or isinstance(result, Info) else list(result)
    if any(info is not None and any(dim < 0 for dim in info.shape or ()) for info in results):
        return nothing
    return (results + nothing)[: len(node.outputs)]


def inference_error(node: Node, inputs: Sequence[Info | None], limits: Limits) -> str | None:
    """Return why the operator refuses inputs of these types and shapes, if its shape rule finds a reason; else None."""
    op = find(node.domain, node.op_type, node.opset)
    wrong = misfit(node, inputs)
    if op is None or wrong is not None:
        return wrong
    try:
        _by_rule(op, node, inputs, limits)
    except OpError as error:
        return str(error)
    except Exception:  # a fault of the rule; the run reports the operator's own error
        return None
    return None


def _by_rule(op: Op, node: Node, inputs: Sequence[Info | None], limits: Limits) -> Any:
    if op.shape is None:
        return None
    while inputs and inputs[-1] is None:
        inputs = inputs[:-1]
    if op.shape_takes_ctx:
        return op.shape(OpContext(node, limits), *inputs, **node.attributes)
    return op.shape(*inputs, **node.attributes)
