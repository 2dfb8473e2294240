"""Operators by domain, name and opset version, and the fast kernels that implement them.

The Python signature of an operator is its schema: positional parameters are inputs
(`*args` variadic), keyword-only parameters are attributes under their ONNX names with
their ONNX defaults; an attribute without a default is required.  An operator that needs
more than that takes a `Context` as a first parameter called `ctx`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from tinyonnx.errors import ModelError, OpError
from tinyonnx.ir import Array, Graph

F = TypeVar("F", bound=Callable[..., Any])

FUSED = "tinyonnx"
"""Domain of the operators that passes create."""


class Info(NamedTuple):
    """What is known of a value at planning time; `value` is set for constants."""

    dtype: np.dtype[Any] | None
    shape: tuple[int, ...] | None
    value: Array | None = None

    @property
    def ndim(self) -> int:
        assert self.shape is not None
        return len(self.shape)


class Context(Protocol):
    """What an operator may need beyond its inputs and attributes."""

    opset: int
    n_outputs: int

    def run_graph(self, graph: Graph, inputs: list[Any]) -> list[Any]:
        """Run a subgraph; captured values are found by themselves."""

    def check_size(self, shape: tuple[int, ...], dtype: Any) -> None:
        """Raise ResourceError if an array of that size is over the limit."""

    def tick(self) -> None:
        """Called before each iteration of a loop: raise ResourceError if the run is over a limit."""


class Call(NamedTuple):
    """A kernel and its arguments.

    `scratch` asks for so many float32 per share of the work, in one more array argument.
    """

    kernel: Any
    args: tuple[Any, ...]
    scratch: int = 0


@dataclass(frozen=True)
class Fast:
    """A kernel for an operator, usable when `when` says so (a reason why not, or None).

    `layout` is the memory order that it wants of rank-3-and-up activations:
    "channels_last", "row_major", or "any" (elementwise: whatever, but the same for all).
    `in_place` says that the output may share the first input's memory.
    """

    bind: Callable[..., Call]
    when: Callable[..., str | None]
    layout: str
    in_place: bool = False


@dataclass(frozen=True)
class Op:
    """One registered operator version."""

    domain: str
    name: str
    since: int
    function: Callable[..., Any]
    shape: Callable[..., Any] | None
    pure: bool
    takes_ctx: bool
    shape_takes_ctx: bool
    min_inputs: int
    max_inputs: int | None
    attributes: dict[str, Any]
    required: frozenset[str]
    fast: list[Fast] = field(default_factory=list)

    @property
    def label(self) -> str:
        return f"{self.domain}.{self.name}" if self.domain else self.name


_OPS: dict[tuple[str, str], dict[int, Op]] = {}
_BY_FUNCTION: dict[Callable[..., Any], list[Op]] = {}


def _takes_ctx(function: Callable[..., Any]) -> bool:
    return next(iter(inspect.signature(function).parameters), None) == "ctx"


def op(
    name: str,
    *,
    since: int = 1,
    domain: str = "",
    shape: Callable[..., Any] | None = None,
    pure: bool = True,
) -> Callable[[F], F]:
    """Register a function as the meaning of an operator from opset `since` on.

    `shape` is the shape rule: called with one `Info` per input (None where absent) and the
    attributes, it returns an `Info`, or a list of them, or None where shapes depend on data;
    like the operator it may take `ctx` first.
    `pure=False` keeps the operator from being folded (random numbers, side effects).

    Raises ValueError if that version is registered already.
    """

    def register(function: F) -> F:
        parameters = list(inspect.signature(function).parameters.values())
        takes_ctx = _takes_ctx(function)
        if takes_ctx:
            parameters = parameters[1:]
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        entry = Op(
            domain=domain,
            name=name,
            since=since,
            function=function,
            shape=shape,
            pure=pure,
            takes_ctx=takes_ctx,
            shape_takes_ctx=shape is not None and _takes_ctx(shape),
            min_inputs=sum(p.default is p.empty for p in positional),
            max_inputs=None if variadic else len(positional),
            attributes={p.name: None if p.default is p.empty else p.default for p in keywords},
            required=frozenset(p.name for p in keywords if p.default is p.empty),
        )
        versions = _OPS.setdefault((domain, name), {})
        if since in versions:
            raise ValueError(f"{entry.label} since {since} is registered twice")
        versions[since] = entry
        _BY_FUNCTION.setdefault(function, []).append(entry)
        return function

    return register


def fast(
    function: Callable[..., Any],
    *,
    when: Callable[..., str | None],
    layout: str = "channels_last",
    in_place: bool = False,
) -> Callable[[F], F]:
    """Register a kernel for every operator that `function` is the meaning of.

    `when(out, *inputs, **attributes)` sees `Info`s and returns None, or why the kernel
    can't be used. The decorated binder is called once per plan,
    `bind(pool, out, *inputs, **attributes)`, with the arrays that every run will use (views
    of the arena, constants) in their logical ONNX shape, strided as `layout` says; it packs
    weights through `pool` and returns a `Call`, or a list of those that follow each other.
    """

    def register(bind: F) -> F:
        for entry in _BY_FUNCTION[function]:
            entry.fast.append(Fast(bind, when, layout, in_place))
        return bind

    return register


def lookup(domain: str, name: str, opset: int) -> Op:
    """The version with the greatest `since` <= `opset`.

    Raises ModelError, saying which versions exist.
    """
    if domain == "ai.onnx":
        domain = ""
    versions = _OPS.get((domain, name), {})
    fitting = [s for s in versions if s <= opset]
    if fitting:
        return versions[max(fitting)]
    label = f"{domain}.{name}" if domain else name
    if versions:
        raise ModelError(f"{label} exists since opset {min(versions)}, the model uses opset {opset}")
    raise ModelError(f"{label} is not supported")


def registered() -> list[Op]:
    """Every registered operator version, sorted by domain, name and version."""
    return [_OPS[key][since] for key in sorted(_OPS) for since in sorted(_OPS[key])]


# -- shape rules ------------------------------------------------------------------------


def same_as(index: int = 0, dtype: Any = None) -> Callable[..., Info]:
    """Rule: the output has the shape (and the dtype, unless given) of input `index`."""

    def rule(*inputs: Info | None, **_: Any) -> Info:
        info = inputs[index]
        assert info is not None
        return Info(info.dtype if dtype is None else np.dtype(dtype), info.shape)

    return rule


def broadcast(dtype: Any = None, dtype_of: int = 0) -> Callable[..., Info]:
    """Rule: numpy broadcasting of all inputs; the dtype of one of them, unless given."""

    def rule(*inputs: Info | None, **_: Any) -> Info:
        present = [i for i in inputs if i is not None]
        first = inputs[dtype_of]
        assert first is not None
        result = first.dtype if dtype is None else np.dtype(dtype)
        shapes = [i.shape for i in present if i.shape is not None]
        if len(shapes) < len(present):
            return Info(result, None)
        try:
            return Info(result, np.broadcast_shapes(*shapes))
        except ValueError:
            raise OpError(f"shapes {', '.join(map(str, shapes))} don't broadcast") from None

    return rule


def by_running(function: Callable[..., Any], *needs: str) -> Callable[..., Any]:
    """Rule for cheap operators: run `function` on zeros of the right shapes.

    `needs` names the inputs whose values decide the shape (the target of a Reshape): these
    must be constants, else nothing is known. The zeros take no memory (stride 0).
    """
    names = [p.name for p in inspect.signature(function).parameters.values() if p.name != "ctx"]

    def arguments(inputs: tuple[Info | None, ...]) -> list[Array | None] | None:
        arrays: list[Array | None] = []
        for i, info in enumerate(inputs):
            if info is None:
                arrays.append(None)
            elif info.value is not None:
                arrays.append(info.value)
            elif names[min(i, len(names) - 1)] in needs or info.dtype is None or info.shape is None:
                return None
            else:
                arrays.append(np.broadcast_to(np.zeros((), info.dtype), info.shape))
        return arrays

    def describe(result: Any) -> Any:
        if isinstance(result, (tuple, list)):
            return [Info(r.dtype, r.shape) for r in result]
        return Info(result.dtype, result.shape)

    def rule(*inputs: Info | None, **attributes: Any) -> Any:
        arrays = arguments(inputs)
        return None if arrays is None else describe(function(*arrays, **attributes))

    def rule_with_ctx(ctx: Context, *inputs: Info | None, **attributes: Any) -> Any:
        arrays = arguments(inputs)
        return None if arrays is None else describe(function(ctx, *arrays, **attributes))

    return rule_with_ctx if _takes_ctx(function) else rule
