"""Infer the shapes of a model's tensors without running it: numbers, or expressions of the model's own dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tinyonnx.ir import Dim, Graph, Value
from tinyonnx.limits import Limits
from tinyonnx.onnxfile.check import describe
from tinyonnx.passes import Rewrite
from tinyonnx.passes.specialise import info_of, specialise
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.runtime.operator_call import inference_error
from tinyonnx.sizes.expressions import ADDRESS, MAXIMUM, QUOTIENT, SYMBOL, Size, Trace

_FIRST, _SECOND = 3 << 8, 5 << 10
"""Sizes that stand for a dimension while shapes are inferred, and sizes that check the result.

Each dimension has a different multiple of them. Both are divisible by the powers of two that models divide by.
"""


@dataclass(frozen=True)
class InferredShapes:
    """Values by name; a dimension is a number, text such as "batch" and "(⌊(time-1)/2⌋+1)", or None if it is unknown.

    `problems` are the reasons why nodes refuse their inputs, by path; `cautions` are sentences about results whose
    shapes differ from those that the file declares.
    """

    values: dict[str, Value] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    cautions: list[str] = field(default_factory=list)


def infer_shapes(graph: Graph, limits: Limits, shapes: Mapping[str, tuple[int, ...]] | None = None) -> InferredShapes:
    """Infer the shapes of all values of a graph, whose operators need not be known.

    `shapes` are those of inputs; a dimension that they leave open is a symbol under the name that the file gives it, or
    under `input[axis]`. Where nothing can be inferred, the file's declarations are used.
    """
    for symbolic in (True, False):
        found = _infer(graph, limits, shapes or {}, symbolic)
        if found is not None:
            return found
    return InferredShapes()


def _infer(
    graph: Graph, limits: Limits, shapes: Mapping[str, tuple[int, ...]], symbolic: bool
) -> InferredShapes | None:
    """Infer shapes; return None if they are valid for some sizes only, or can't be expressed."""
    symbols = _Symbols()
    copy = graph.clone()
    for value in copy.inputs:
        if value.name in shapes:
            value.shape = shapes[value.name]
        elif symbolic and value.shape is not None:
            value.shape = symbols.replaced(value.shape, value.name)
    if symbolic:
        for value in all_values(copy):
            if value.shape is not None and value.producer is not None:
                value.shape = symbols.replaced(value.shape, None)
    rewrite = Rewrite(copy, ConstantPool(), limits, graph.name, [], "specialise", trusts_declared=True)
    try:
        specialise(rewrite)
        problems = dict(_problems(rewrite, limits))
    except Exception:
        if not symbolic:
            raise
        return None  # operators that can't be computed for all sizes at once
    if not symbols.hold_elsewhere():
        return None
    values = {name: _described(value) for name, value in _found(rewrite).items()}
    return InferredShapes(values, problems, list(_contradictions(graph, values)))


def _contradictions(graph: Graph, inferred: Mapping[str, Value]) -> Iterator[str]:
    for node in graph.nodes:
        for value in node.outputs:
            found = inferred.get(value.name) if value is not None else None
            if value is not None and found is not None and _contradict(value.shape, found.shape):
                where = describe(node.op_type, node.domain, node.label, node.index)
                declared, shape = _text(value.shape), _text(found.shape)
                yield f'{where}: its result "{value.name}" has the shape {shape}, the file declares {declared}'


def _found(rewrite: Rewrite) -> dict[str, Value]:
    return rewrite.folded | {value.name: value for value in all_values(rewrite.graph)}


def _problems(rewrite: Rewrite, limits: Limits) -> Iterator[tuple[str, str]]:
    for path, node in walk(rewrite.graph):
        inputs = [info_of(value) for value in node.inputs]
        if all(info is None or info.shape is not None for info in inputs):
            wrong = inference_error(node, inputs, limits)
            if wrong is not None:
                yield path, wrong


def walk(graph: Graph, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every node, including those of subgraphs, with its path."""
    for node in graph.nodes:
        yield prefix + node.label, node
        for name, attribute in node.attributes.items():
            if isinstance(attribute, Graph):
                yield from walk(attribute, f"{prefix}{node.label}/{name}/")


def all_values(graph: Graph) -> Iterator[Value]:
    """Yield the values of a graph and its subgraphs."""
    yield from graph.values().values()
    for node in graph.nodes:
        for subgraph in node.subgraphs:
            yield from all_values(subgraph)


class _Symbols:
    """Symbols by the names of their dimensions."""

    def __init__(self) -> None:
        self._trace = Trace()
        self._symbols: dict[str, Any] = {}

    def replaced(self, shape: tuple[Dim, ...], name: str | None) -> tuple[Any, ...]:
        """Return a shape with symbols for names, and for unknown dimensions of the input `name`, if that is given."""
        return tuple(
            self._of(dim) if isinstance(dim, str)
            else self._of(f"{name}[{axis}]") if dim is None and name is not None
            else dim
            for axis, dim in enumerate(shape)
        )  # fmt: skip

    def hold_elsewhere(self) -> bool:
        """Return whether all comparisons that were decided come out the same for other sizes."""
        symbols = list(self._symbols.values())
        self._trace.set_values(symbols, [_SECOND * (i + 2) for i in range(len(symbols))])
        return all(condition.holds() for condition in self._trace.conditions.values())

    def _of(self, name: str) -> Any:
        if name not in self._symbols:
            self._symbols[name] = self._trace.symbol(name, _FIRST * (len(self._symbols) + 1))
        return self._symbols[name]


def _described(value: Value) -> Value:
    """Return a value without content, its dimensions as numbers and text."""
    shape = None if value.shape is None else tuple(d if d is None else size_text(d) for d in value.shape)
    described = Value(value.name, value.dtype, shape)
    described.type = value.type
    return described


def _contradict(declared: tuple[Dim, ...] | None, inferred: tuple[Dim, ...] | None) -> bool:
    if declared is None or inferred is None:
        return False
    pairs = list(zip(declared, inferred))
    return len(declared) != len(inferred) or any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs)


def _text(shape: tuple[Dim, ...] | None) -> str:
    return f"[{', '.join('?' if d is None else str(d) for d in shape or ())}]"


# -- sizes as text ------------------------------------------------------------------------


def size_text(dim: Any) -> Any:
    """Return a size as text, in parentheses if it is a sum; a number or a name as it is."""
    if not isinstance(dim, Size):
        return dim
    text = _sum(dim)
    return f"({text})" if len(dim.terms) > 1 else text


def _sum(size: Any) -> str:
    if not isinstance(size, Size):
        return str(size)
    text = ""
    for monomial, coefficient in sorted(size.terms, key=lambda term: (not term[0], term[1] < 0)):
        factors = [] if abs(coefficient) == 1 and monomial else [str(abs(coefficient))]
        factors += [_atom(size.trace, number) for number in monomial]
        sign = "-" if coefficient < 0 else "+" if text else ""
        text += sign + "·".join(factors)
    return text


def _atom(trace: Trace, number: int) -> str:
    atom = trace.atoms[number]
    if atom.kind in (SYMBOL, ADDRESS):
        return atom.name
    a, b = atom.operands
    if atom.kind != QUOTIENT:
        return f"{'max' if atom.kind == MAXIMUM else 'min'}({_sum(a)}, {_sum(b)})"
    while (inner := _only_quotient(trace, a)) is not None and isinstance(b, int):
        # ⌊(⌊x/n⌋ + k)/b⌋ = ⌊(x + n·k)/(n·b)⌋
        (x, n), k = inner
        a, b = x + n * k, n * b
    return f"⌊{_factor(a)}/{_factor(b)}⌋"


def _only_quotient(trace: Trace, size: Any) -> tuple[tuple[Any, int], int] | None:
    """Return dividend, divisor and addend of a quotient by a number plus a number; else None."""
    terms = dict(size.terms) if isinstance(size, Size) else {}
    constant = terms.pop((), 0)
    if len(terms) != 1:
        return None
    ((monomial, coefficient),) = terms.items()
    atom = trace.atoms[monomial[0]]
    if coefficient != 1 or len(monomial) != 1 or atom.kind != QUOTIENT or not isinstance(atom.operands[1], int):
        return None
    return (atom.operands[0], atom.operands[1]), constant


def _factor(size: Any) -> str:
    return f"({_sum(size)})" if isinstance(size, Size) and len(size.terms) > 1 else _sum(size)
