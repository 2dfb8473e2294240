"""The registry of operators, by domain, name and opset, and of the kernels that implement them.

The Python signature of an operator is its schema: positional parameters are inputs (`*args` variadic), keyword-only
parameters are attributes under their ONNX names with their ONNX defaults; an attribute without a default is
required. A keyword-only parameter annotated with a subclass of `Attributes` stands for several attributes. An operator
that needs more takes a `Context` as its first parameter, named `ctx`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cache, cached_property, wraps
from types import CodeType
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeVar, cast, dataclass_transform, get_type_hints

import numpy as np

from tinyonnx.errors import ModelError, OpError
from tinyonnx.ir import Array, Graph
from tinyonnx.sizes.integers import broadcast_shapes

F = TypeVar("F", bound=Callable[..., Any])

FUSED = "tinyonnx"
"""Domain of the operators that only passes create."""


class Info(NamedTuple):
    """Type, shape and content of a value at planning time, None if unknown; `value` is set for constants.

    Sizes in `shape` may be expressions that behave like ints (`tinyonnx.sizes`); then `value` may be an array of
    objects: integers that are such expressions.
    """

    dtype: np.dtype[Any] | None
    shape: tuple[int, ...] | None
    value: Array | None = None

    @property
    def ndim(self) -> int:
        """The rank, of a value with a known shape."""
        assert self.shape is not None
        return len(self.shape)


class Context(Protocol):
    """Services of the runtime that an operator may use, besides its inputs and attributes."""

    opset: int
    n_outputs: int

    def run_graph(self, graph: Graph, inputs: list[Any]) -> list[Any]:
        """Run a subgraph on its inputs and return its outputs; captured values are resolved by the runtime."""

    def check_size(self, shape: tuple[int, ...], dtype: Any) -> None:
        """Raise ResourceError if an array of this shape and dtype exceeds the size limit."""

    def keep(self, value: Any) -> None:
        """Count a result of a subgraph as memory until the operator ends. Raises ResourceError beyond the limit."""

    def tick(self) -> None:
        """Count one loop iteration. Raises ResourceError if the run exceeds a limit."""


@dataclass_transform(kw_only_default=True)
class Attributes:
    """Base class of attribute groups: attributes that several operators share, declared once.

    A subclass lists them as annotated names with their defaults; one without a default is
    required. It inherits those of its base class. Instances are not changed after creation.
    """

    defaults: ClassVar[dict[str, Any]] = {}
    """The default of every field; `inspect.Parameter.empty` for required ones."""

    def __init_subclass__(cls) -> None:
        own = inspect.get_annotations(cls)
        cls.defaults = cls.defaults | {name: getattr(cls, name, inspect.Parameter.empty) for name in own}

    def __init__(self, **values: Any) -> None:
        for name in values.keys() - self.defaults.keys():
            raise TypeError(f"{type(self).__name__} has no field {name!r}")
        for name, default in self.defaults.items():
            value = values.get(name, default)
            if value is inspect.Parameter.empty:
                raise TypeError(f"{type(self).__name__} needs a value of {name!r}")
            setattr(self, name, value)

    def replace(self, **values: Any) -> Self:
        """Return a copy with some fields changed."""
        return type(self)(**(vars(self) | values))

    @classmethod
    def attribute_name(cls, parameter: str, field: str) -> str:
        """Return the ONNX attribute for `field` of the group `parameter` of an operator: the field's own name."""
        return field


class Call(NamedTuple):
    """A kernel with its arguments.

    `scratch` is the number of float32 elements that each share of the work needs, passed as one more array.
    """

    kernel: Any
    args: tuple[Any, ...]
    scratch: int = 0


class Fast(NamedTuple):
    """A kernel registered for an operator.

    Attributes:
        bind: makes the `Call`; see `fast`.
        when: returns None if the kernel can be used, else the reason why it can't.
        layout: memory order of activations of rank 3 and more: "channels_last", "row_major", or "any" (the same
            for all of them).
        in_place: the output may share the memory of the first input.
        outputs: the kernel computes all outputs of the node that are read (None for the others), not only the first.
        by_item: each item of a batch (axis 0 of all non-constant inputs and all outputs) depends on that item alone.
        rounds: `bind` takes `rounded=True`: operands of products are then rounded to bfloat16.
        reports: `bind` takes `status=`, one int64 that it sets if its data are invalid: then the operator raises.
    """

    bind: Callable[..., Call]
    when: Callable[..., str | None]
    layout: str
    in_place: bool = False
    outputs: bool = False
    by_item: bool = False
    rounds: bool = False
    reports: bool = False


class Op:
    """One registered version of an operator; properties of its signature are computed on first access."""

    def __init__(
        self,
        domain: str,
        name: str,
        since: int,
        function: Callable[..., Any],
        shape: Callable[..., Any] | None,
        pure: bool,
    ) -> None:
        self.domain = domain
        self.name = name
        self.since = since
        self.function = function
        self.shape = shape
        self.pure = pure

    @property
    def fast(self) -> list[Fast]:
        """The operator's kernels; none before `tinyonnx.kernels` is imported."""
        return _FAST.get(self.function, [])

    @property
    def label(self) -> str:
        """`domain.name`, or the name alone for ONNX's own domain."""
        return f"{self.domain}.{self.name}" if self.domain else self.name

    @cached_property
    def takes_ctx(self) -> bool:
        """Whether the operator's first parameter is the context."""
        return _takes_ctx(self.function)

    @cached_property
    def shape_takes_ctx(self) -> bool:
        """Whether the shape rule's first parameter is the context."""
        return self.shape is not None and _takes_ctx(self.shape)

    @cached_property
    def min_inputs(self) -> int:
        """Number of inputs without a default."""
        return sum(p.default is p.empty for p in self._positional)

    @cached_property
    def max_inputs(self) -> int | None:
        """Number of inputs; None if variadic."""
        variadic = any(p.kind is p.VAR_POSITIONAL for p in self._parameters)
        return None if variadic else len(self._positional)

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Attributes with their defaults; None for a required one."""
        return {name: None if default is _REQUIRED else default for name, default in self._defaults.items()}

    @cached_property
    def required(self) -> frozenset[str]:
        """Names of the attributes without a default."""
        return frozenset(name for name, default in self._defaults.items() if default is _REQUIRED)

    @cached_property
    def attribute_types(self) -> dict[str, Any]:
        """Annotated types of the attributes; {} if they can't be resolved (custom operators)."""
        try:
            types = get_type_hints(self.function)
            for parameter, group in _groups(self.function).items():
                hints = get_type_hints(group)
                types |= {group.attribute_name(parameter, field): hints[field] for field in group.defaults}
        except Exception:
            return {}
        return {name: types[name] for name in self._defaults if name in types}

    @cached_property
    def takes_any_attribute(self) -> bool:
        """Whether the operator accepts attributes of any name."""
        return any(p.kind is p.VAR_KEYWORD for p in self._parameters)

    @cached_property
    def _parameters(self) -> list[inspect.Parameter]:
        return list(_parameters(self.function).values())[self.takes_ctx :]

    @property
    def _positional(self) -> list[inspect.Parameter]:
        return [p for p in self._parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]

    @cached_property
    def _defaults(self) -> dict[str, Any]:
        defaults: dict[str, Any] = {}
        groups = _groups(self.function)
        for p in self._parameters:
            if p.name in groups:
                group = groups[p.name]
                values = group.defaults if p.default is p.empty else vars(p.default)
                defaults |= {group.attribute_name(p.name, field): value for field, value in values.items()}
            elif p.kind is p.KEYWORD_ONLY:
                defaults[p.name] = p.default
        return defaults


_REQUIRED = inspect.Parameter.empty

_OPS: dict[tuple[str, str], dict[int, Op]] = {}
_custom = False
_FAST: dict[Callable[..., Any], list[Fast]] = {}
COMPILED: dict[Callable[..., Any], Callable[..., Any]] = {}


def _takes_ctx(function: Callable[..., Any]) -> bool:
    return next(iter(_parameters(function)), None) == "ctx"


@cache
def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def _groups(function: Callable[..., Any]) -> dict[str, type[Attributes]]:
    """Return the keyword-only parameters that are attribute groups: annotated with a class or its global name."""
    function = inspect.unwrap(function)
    code: CodeType | None = getattr(function, "__code__", None)
    if code is None:
        return {}
    groups = {}
    for parameter in code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]:
        hint = function.__annotations__.get(parameter)
        kind = function.__globals__.get(hint) if isinstance(hint, str) else hint
        if isinstance(kind, type) and issubclass(kind, Attributes):
            groups[parameter] = kind
    return groups


def with_groups(function: F) -> F:
    """Let a function with attribute groups also take the attributes one by one; return other functions as they are.

    Attributes that are given replace those of the group's default.
    """
    groups = _groups(function)
    if not groups:
        return function
    fields = {
        parameter: {group.attribute_name(parameter, field): field for field in group.defaults}
        for parameter, group in groups.items()
    }
    defaults: Mapping[str, Any] = inspect.unwrap(function).__kwdefaults__ or {}

    @wraps(function)
    def call(*args: Any, **attributes: Any) -> Any:
        for parameter, group in groups.items():
            if isinstance(attributes.get(parameter), Attributes):
                continue
            named = fields[parameter]
            given = {named[name]: attributes.pop(name) for name in named.keys() & attributes.keys()}
            default = defaults.get(parameter)
            attributes[parameter] = group(**given) if default is None else default.replace(**given)
        return function(*args, **attributes)

    return cast(F, call)


def op(
    name: str,
    *,
    since: int = 1,
    domain: str = "",
    shape: Callable[..., Any] | None = None,
    pure: bool = True,
) -> Callable[[F], F]:
    """Register a function as the implementation of an operator from opset `since` on.

    `shape` is the shape rule: called with one `Info` per input (None if absent) and the attributes, it returns an
    `Info`, a list of them, or None if shapes depend on data; like the operator it may take `ctx` first.
    `pure=False` prevents constant folding (random numbers, side effects).

    Raises ValueError if that version is already registered.
    """

    rule = None if shape is None else with_groups(shape)

    def register(function: F) -> F:
        function = with_groups(function)
        entry = Op(domain, name, since, function, rule, pure)
        if not function.__module__.startswith("tinyonnx."):
            global _custom
            _custom = True
            _import_all()
        registered = _OPS.setdefault((domain, name), {})
        if since in registered:
            raise ValueError(f"{entry.label} since {since} is registered twice")
        registered[since] = entry
        return function

    return register


def fast(
    function: Callable[..., Any],
    *,
    when: Callable[..., str | None],
    layout: str = "channels_last",
    in_place: bool = False,
    outputs: bool = False,
    by_item: bool = False,
    rounds: bool = False,
    reports: bool = False,
) -> Callable[[F], F]:
    """Register a kernel for every operator that `function` implements.

    `when(out, *inputs, **attributes)` gets `Info`s and returns None, or the reason why the kernel can't be used.
    The decorated binder is called once per plan, `bind(pool, out, *inputs, **attributes)`, with views of the arena and
    constants in their logical ONNX shape and the memory order that `layout` demands. It packs weights through `pool`
    and returns a `Call`, or a list of consecutive ones. With `outputs`, `out` is a list. See `Fast` for the flags.
    """

    def register(bind: F) -> F:
        kernel = Fast(with_groups(bind), with_groups(when), layout, in_place, outputs, by_item, rounds, reports)
        _FAST.setdefault(function, []).append(kernel)
        return bind

    return register


def compiled(function: Callable[..., Any]) -> Callable[[F], F]:
    """Register a compiled form of a function whose results' shapes depend on data, for the numpy steps of plans."""
    return lambda form: cast(Any, COMPILED.setdefault(function, form))


def lookup(domain: str, name: str, opset: int) -> Op:
    """Return the operator's version with the greatest `since` <= `opset`.

    Built-in versions are registered newest first, so that a look-up while another thread imports them finds the
    right one or waits for the import.

    Raises ModelError, with the versions that exist, if there is none.
    """
    known = versions(name, domain)
    if not any(since <= opset for since in known):
        _import_all()
        known = versions(name, domain)
    fitting = [since for since in known if since <= opset]
    if fitting:
        return known[max(fitting)]
    label = f"{domain}.{name}" if domain not in ("", "ai.onnx") else name
    if known:
        raise ModelError(f"{label} exists since opset {min(known)}, the model uses opset {opset}")
    raise ModelError(f"{label} is not supported")


def find(domain: str, name: str, opset: int) -> Op | None:
    """Return what `lookup` returns; None if there is no such operator."""
    try:
        return lookup(domain, name, opset)
    except ModelError:
        return None


def versions(name: str, domain: str = "") -> dict[int, Op]:
    """Return the registered versions of an operator by `since`; empty if there are none."""
    key = ("" if domain == "ai.onnx" else domain, name)
    if key not in _OPS:
        import tinyonnx.ops  # noqa: F401
    if key not in _OPS:
        _import_all()
    return _OPS.get(key, {})


def functions(name: str, since: int = 1) -> list[Callable[..., Any]]:
    """Return the distinct implementations of an ai.onnx operator from opset `since` on."""
    return list(dict.fromkeys(op.function for number, op in versions(name).items() if number >= since))


def has_custom() -> bool:
    """Return whether the user registered an operator."""
    return _custom


def registered() -> list[Op]:
    """Return every registered operator version, sorted by domain, name and version."""
    _import_all()
    return [_OPS[key][since] for key in sorted(_OPS) for since in sorted(_OPS[key])]


def all_imported() -> bool:
    """Return whether the operator modules that `tinyonnx.ops` does not import at once are imported."""
    return "tinyonnx.ops.others" in sys.modules


def _import_all() -> None:
    """Import the operator modules that `tinyonnx.ops` does not import at once."""
    import tinyonnx.ops.others  # noqa: F401


# -- shape rules ------------------------------------------------------------------------


def same_as(index: int = 0, dtype: Any = None) -> Callable[..., Info]:
    """Return the shape rule: shape of input `index`, and its dtype unless `dtype` is given."""

    def rule(*inputs: Info | None, **_: Any) -> Info:
        info = inputs[index]
        assert info is not None
        return Info(info.dtype if dtype is None else np.dtype(dtype), info.shape)

    return rule


def broadcast(dtype: Any = None, dtype_of: int = 0) -> Callable[..., Info]:
    """Return the shape rule: all inputs broadcast as in numpy; dtype of input `dtype_of` unless `dtype` is given."""

    def rule(*inputs: Info | None, **_: Any) -> Info:
        present = [i for i in inputs if i is not None]
        first = inputs[dtype_of]
        assert first is not None
        result = first.dtype if dtype is None else np.dtype(dtype)
        shapes = [i.shape for i in present if i.shape is not None]
        if len(shapes) < len(present):
            return Info(result, None)
        try:
            return Info(result, broadcast_shapes(*shapes))
        except ValueError:
            raise OpError(f"shapes {', '.join(map(str, shapes))} don't broadcast") from None

    return rule


def by_running(function: Callable[..., Any], *needs: str) -> Callable[..., Any]:
    """Return the shape rule for a cheap operator: run `function` on zeros of the input shapes.

    `needs` names the inputs whose values determine the shape (the target of a Reshape): unless they are constant,
    nothing is known. The zeros take no memory (stride 0).
    """

    call = with_groups(function)

    def arguments(inputs: tuple[Info | None, ...]) -> list[Array | None] | None:
        names = [name for name in _parameters(function) if name != "ctx"]
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
        return None if arrays is None else describe(call(*arrays, **attributes))

    def rule_with_ctx(ctx: Context, *inputs: Info | None, **attributes: Any) -> Any:
        arrays = arguments(inputs)
        return None if arrays is None else describe(call(ctx, *arrays, **attributes))

    return rule_with_ctx if inspect.unwrap(function).__code__.co_varnames[:1] == ("ctx",) else rule
