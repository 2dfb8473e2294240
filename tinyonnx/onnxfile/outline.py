"""Read as much of a model as possible, for tools that show it; the result can't run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from tinyonnx.errors import ModelError
from tinyonnx.files import read_file
from tinyonnx.ir import Array, Dim, Graph
from tinyonnx.limits import MAX_RANK, Limits, ModelLimitError
from tinyonnx.onnxfile.build import ABSENT, Builder, Frame, Type
from tinyonnx.onnxfile.external_data import ExternalData
from tinyonnx.onnxfile.gradients import attach_functions
from tinyonnx.onnxfile.load import learn_schemas, parse
from tinyonnx.onnxfile.messages import Message
from tinyonnx.onnxfile.tensors import TensorDecoder


def load_outline(path: str, limits: Limits | None = None) -> tuple[Graph, list[str]]:
    """Return a graph of the parts of a model that could be read, and a sentence about each part that could not.

    Operators are not looked up. An initializer whose content can't be read is a value without a constant, and an input
    that nothing produces is a value without a producer. Raises ModelError if it is not an ONNX model or exceeds a
    limit, OSError if the file can't be read.
    """
    limits = limits or Limits()
    model = parse(read_file(path), path)
    try:
        return _outline(model, path, limits, model.functions)
    except ModelLimitError:
        raise
    except ModelError as error:  # of a function: its calls are shown as nodes
        graph, problems = _outline(model, path, limits, ())
        return graph, [str(error), *problems]


def _outline(model: Message, file: str, limits: Limits, functions: Iterable[Message]) -> tuple[Graph, list[str]]:
    problems: list[str] = []
    external = ExternalData(os.path.dirname(file) or ".")
    try:
        builder = _OutlineBuilder(file, limits, functions, external, problems)
        graph = builder.build(model.graph, _opsets(model.opset_import))
    finally:
        external.close()
    learn_schemas(graph)
    try:
        attach_functions(graph, file)
    except (ModelError, KeyError, TypeError) as error:
        problems.append(f"{file}: a Gradient node can't be read: {error}")
    return graph, list(dict.fromkeys(problems))


class _OutlineBuilder(Builder):
    """Builds the graph of a model and appends problems to a list instead of raising them."""

    def __init__(
        self, file: str, limits: Limits, functions: Iterable[Message], external: ExternalData, problems: list[str]
    ) -> None:
        self._tensors = TensorDecoder(limits, external)
        super().__init__(file, self._tensors, limits, functions, lambda imports, _: _opsets(imports))
        self._problems = problems

    def _refuse(self, problem: str) -> None:
        self._problems.append(problem)

    def _in_order(self, nodes: Iterable[Message], defined: set[str], where: str) -> list[tuple[int, Message]]:
        try:
            return super()._in_order(nodes, defined, where)
        except ModelError as error:
            self._refuse(str(error))
            return list(enumerate(nodes))

    def _types(self, value_infos: Iterable[Message]) -> dict[str, Type]:
        types: dict[str, Type] = {}
        for value_info in value_infos:
            try:
                types |= super()._types([value_info])
            except ModelError as error:
                self._refuse(str(error))
        return types

    def _initializer(
        self, graph: Graph, name: str, proto: Message, decode: Callable[[Message, str], Array], frame: Frame
    ) -> None:
        try:
            super()._initializer(graph, name, proto, decode, frame)
        except ModelError as error:
            self._refuse(str(error))
            if name and name not in frame.scope.maps[0]:
                value = self._define(name, frame)
                value.shape = _shape(proto.dims)
                value.dtype = self._dtype((proto.values if hasattr(proto, "values") else proto).data_type)
                graph.initializers.append(value)

    def _attribute(self, proto: Message, frame: Frame, where: str) -> object:
        try:
            return super()._attribute(proto, frame, where)
        except ModelLimitError:
            raise
        except ModelError as error:
            self._refuse(str(error))
        return ABSENT

    def _dtype(self, number: int) -> Any:
        """Return the numpy dtype of a tensor's type; None if it is unknown."""
        try:
            return self._tensors.dtype(number, "")
        except ModelError:
            return None


def _shape(dims: Iterable[int]) -> tuple[Dim, ...] | None:
    shape = tuple(dims)
    return shape if len(shape) <= MAX_RANK and all(dim >= 0 for dim in shape) else None


def _opsets(imports: Iterable[Message]) -> dict[str, int]:
    return {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in imports}
