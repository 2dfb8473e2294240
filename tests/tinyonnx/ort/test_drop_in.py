"""Uses of onnxruntime by packages, run with it and with tinyonnx under its name."""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime as real
import pytest

import tinyonnx
from tests.tinyonnx.ort.conftest import FEEDS, SHIFT, X, Y, session


def test_the_module_looks_like_onnxruntime(stand_in: ModuleType) -> None:
    from onnxruntime import InferenceSession
    from onnxruntime.capi import _pybind_state
    from onnxruntime.capi.onnxruntime_inference_collection import IOBinding
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, NoSuchFile

    assert InferenceSession is tinyonnx.InferenceSession
    assert IOBinding is tinyonnx.IOBinding
    assert int(stand_in.__version__.split(".")[1]) > 16
    with pytest.raises(NoSuchFile):
        InferenceSession("no_such_file.onnx")
    with pytest.raises(InvalidArgument):
        session(stand_in).run(["nothing"], FEEDS)
    with pytest.raises(_pybind_state.Fail):
        InferenceSession(b"nonsense")
    assert issubclass(tinyonnx.NodeError, Fail)
    tinyonnx.install_as_onnxruntime()  # once more does no harm


def test_the_real_one_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", real)
    with pytest.raises(RuntimeError, match="imported already"):
        tinyonnx.install_as_onnxruntime()


def test_parts_that_are_missing_are_named(stand_in: ModuleType) -> None:
    for part in ("quantization", "transformers.optimizer", "tools"):
        with pytest.raises(ModuleNotFoundError, match=rf"onnxruntime\.{part.split('.')[0]} is missing: tinyonnx"):
            importlib.import_module(f"onnxruntime.{part}")
    with pytest.raises(ModuleNotFoundError, match="No module named 'onnxruntimes'"):
        importlib.import_module("onnxruntimes")


def test_what_a_session_says_of_itself(ort: ModuleType) -> None:
    s = session(ort)
    assert s.get_providers() == ["CPUExecutionProvider"]
    assert "CPUExecutionProvider" in ort.get_available_providers()
    assert ort.get_device() == "CPU"
    assert [(i.name, i.type, i.shape) for i in s.get_inputs()] == [
        ("x", "tensor(float)", ["batch", 3]),
        ("shift", "tensor(float)", [3]),
    ]
    assert [o.name for o in s.get_outputs()] == ["y", "z"]
    assert [i.name for i in s.get_overridable_initializers()] == ["scale"]
    assert s.get_modelmeta().graph_name == "test"


def test_an_initializer_that_is_an_input_may_be_fed(ort: ModuleType) -> None:
    s = session(ort)
    for scale in ([1, 2, 3], [0, 0, 1]):
        given = {"scale": np.array(scale, np.float32)} if scale[0] == 0 else {}
        np.testing.assert_array_equal(s.run(["y"], FEEDS | given)[0], X * scale + SHIFT)
    with pytest.raises(Exception, match="inner"):
        s.run(["z"], FEEDS | {"inner": SHIFT})


def test_a_missing_feed_is_a_value_error(ort: ModuleType) -> None:
    with pytest.raises(ValueError, match="shift"):
        session(ort).run(None, {"x": X})


def test_asynchronous_runs(ort: ModuleType) -> None:
    options, done, seen = ort.SessionOptions(), threading.Event(), []
    options.intra_op_num_threads = 2

    def callback(results: Any, user_data: Any, error: str) -> None:
        seen.append((results, user_data, error))
        done.set()

    session(ort, options).run_async(["y"], FEEDS, callback, "mine")
    assert done.wait(600)
    ((results, user_data, error),) = seen
    np.testing.assert_array_equal(results[0], Y)
    assert (user_data, error) == ("mine", "")
