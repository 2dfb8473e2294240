"""The sides with which `reduce` compares: onnx's reference, onnxruntime, numpy, another model."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from tinyonnx.errors import Error, InputError
from tinyonnx.ir import Array, Value
from tinyonnx.onnxfile.messages import Message
from tinyonnx.ort.options import GraphOptimizationLevel, SessionOptions
from tinyonnx.ort.session import InferenceSession
from tinyonnx.tools.oracles import onnxruntime_values, reference_values
from tinyonnx.tools.reduce import OtherSide
from tinyonnx.tools.surgery import as_array, between, open_model


def other_side(against: str) -> OtherSide:
    """Return the side of this name, or the model of this path. Raises InputError if it is neither."""
    sides: dict[str, OtherSide] = {"reference": _Reference(), "onnxruntime": _OnnxRuntime(), "unoptimized": _Numpy()}
    if against in sides:
        return sides[against]
    if not os.path.exists(against):
        raise InputError(f"--against {against}: is neither a file nor one of {', '.join(sides)}")
    return _Model(against)


class _Reference:
    own_weights = False

    def values(self, model: Message, feeds: Mapping[str, Array], names: Collection[str]) -> Mapping[str, Any]:
        return reference_values(model.SerializeToString(), feeds)


class _OnnxRuntime:
    own_weights = False

    def values(self, model: Message, feeds: Mapping[str, Array], names: Collection[str]) -> Mapping[str, Any]:
        return onnxruntime_values(model.SerializeToString(), feeds, list(names))


class _Numpy:
    own_weights = False

    def values(self, model: Message, feeds: Mapping[str, Array], names: Collection[str]) -> Mapping[str, Any]:
        return _unoptimised(model, feeds, names)


class _Model:
    """Another model with the same tensor names: its nodes between the same tensors run."""

    own_weights = True

    def __init__(self, path: str) -> None:
        self._path, self._model = path, open_model(path)

    def values(self, model: Message, feeds: Mapping[str, Array], names: Collection[str]) -> Mapping[str, Any]:
        # constants of a part are results of nodes elsewhere
        produced = {name for node in self._model.graph.node for name in node.output}
        given = dict(feeds) | {t.name: as_array(t) for t in model.graph.initializer if t.name in produced}
        typed = {name: Value(name, array.dtype, array.shape) for name, array in given.items()}
        outputs = [value.name for value in model.graph.output]
        return _unoptimised(between(self._model, self._path, list(given), outputs, typed), given, names)


def _unoptimised(model: Message, feeds: Mapping[str, Array], names: Collection[str]) -> dict[str, Any]:
    """Return the named tensors that a model has, computed in numpy. Raises InputError if it can't run."""
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = InferenceSession(model.SerializeToString(), options)
        own = {arg.name for arg in session.get_inputs()}
        present = session.graph.values().keys() | set(session.graph.output_names)
        wanted = [name for name in names if name in present]
        found = session.run(wanted, {name: array for name, array in feeds.items() if name in own})
    except Error as error:
        raise InputError(f"the other side can't run it: {error}") from error
    return {name: np.asarray(value) if isinstance(value, np.generic) else value for name, value in zip(wanted, found)}
