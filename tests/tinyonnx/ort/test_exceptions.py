"""Exceptions under onnxruntime's names: here and in onnxruntime the same ones are raised."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.ort.conftest import FEEDS, SHIFT, X, session


def model(text: str, opsets: str = '"": 17') -> bytes:
    data: bytes = onnx.parser.parse_model(
        f"<ir_version: 8, opset_import: [{opsets}]> g (float[n,3] x, float[n,3] z) => (float[m,k] y) {{ {text} }}"
    ).SerializeToString()
    return data


def load(ort: ModuleType, source: Any) -> Any:
    return ort.InferenceSession(source, providers=["CPUExecutionProvider"])


MISFIT = {"x": np.zeros((2, 3), np.float32), "z": np.zeros((2, 3), np.float32)}


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        ("NoSuchFile", lambda ort: load(ort, "no_such_file.onnx")),
        ("InvalidProtobuf", lambda ort: load(ort, b"garbage")),
        ("Fail", lambda ort: load(ort, model("y = other.Op(x)", '"": 17, "other": 1'))),
        ("InvalidGraph", lambda ort: load(ort, model("y = Nonsense(x)"))),
        ("InvalidArgument", lambda ort: session(ort).run(["nothing"], FEEDS)),
        ("InvalidArgument", lambda ort: session(ort).run(None, FEEDS | {"more": X})),
        ("InvalidArgument", lambda ort: session(ort).run(None, {"x": X.astype(float), "shift": SHIFT})),
        ("InvalidArgument", lambda ort: session(ort).run(None, {"x": X[0], "shift": SHIFT})),
        ("InvalidArgument", lambda ort: session(ort).run(None, {"x": X[:, :2], "shift": SHIFT})),
        ("Fail", lambda ort: load(ort, model("y = MatMul(x, z)")).run(None, MISFIT)),
        ("Fail", lambda ort: load(ort, model("s = Shape(z) t = Add(s, s) y = Reshape(x, t)")).run(
            None, MISFIT)),
        ("InvalidArgument", lambda ort: load(ort, model(
            "i = Constant<value_ints = [7, 7]>() y = Gather<axis=1>(x, i)")).run(None, MISFIT)),
    ],
)  # fmt: skip
def test_each_situation_has_the_type_of_onnxruntime(kind, call, ort):
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    with pytest.raises(getattr(state, kind)):
        call(ort)


def test_missing_inputs_are_value_errors_and_bad_bindings_runtime_errors(ort):
    with pytest.raises(ValueError, match="shift"):
        session(ort).run(None, {"x": X})
    s = session(ort)
    with pytest.raises(RuntimeError, match="nothing"):
        s.io_binding().bind_cpu_input("nothing", X)
    with pytest.raises(RuntimeError):
        s.run_with_iobinding(s.io_binding())
    binding = s.io_binding()
    binding.bind_cpu_input("x", X.astype(float))
    binding.bind_cpu_input("shift", SHIFT)
    binding.bind_output("y")
    with pytest.raises(RuntimeError):
        s.run_with_iobinding(binding)


def test_names_are_classes_of_their_own(stand_in):
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = [
        *("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotFound", "NotImplemented"),
        *("NoModel", "ModelLoaded", "EPFail", "EngineError", "RuntimeException", "ModelRequiresCompilation"),
    ]
    kinds = [getattr(state, name) for name in names]
    assert len(set(kinds)) == len(names)
    assert all(not issubclass(a, b) for a in kinds for b in kinds if a is not b)
    with pytest.raises(tinyonnx.ModelError) as caught:
        load(stand_in, "no_such_file.onnx")
    assert not isinstance(caught.value, state.InvalidProtobuf)
