"""Attributes of sessions, options and the module itself that packages read, here and in onnxruntime."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import pickle
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

import tinyonnx
from tests.tinyonnx.ort.conftest import FEEDS, MODEL, Y, session
from tinyonnx.ort import profiling


def test_options_refuse_what_onnxruntime_refuses(ort: ModuleType) -> None:
    options, run_options = ort.SessionOptions(), ort.RunOptions()
    for each in (options, run_options):
        with pytest.raises(AttributeError, match="intra_op_threads"):
            each.intra_op_threads = 1
    for name, value in (("intra_op_num_threads", "1"), ("log_severity_level", None), ("logid", 3)):
        with pytest.raises(TypeError):
            setattr(options, name, value)
    options.intra_op_num_threads = np.int64(2)
    assert options.intra_op_num_threads == 2
    with pytest.raises(RuntimeError, match=r"some\.key"):
        options.get_session_config_entry("some.key")
    with pytest.raises(RuntimeError, match=r"some\.key"):
        run_options.get_run_config_entry("some.key")
    assert options.has_providers() is False


def test_private_attributes(ort: ModuleType, tmp_path: Path) -> None:
    path = str(tmp_path / "m.onnx")
    Path(path).write_bytes(MODEL)
    options = ort.SessionOptions()
    s = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    assert (s._model_path, s._model_bytes) == (path, None)
    assert s._sess_options_initial is options
    assert (s._providers, s._provider_options) == (["CPUExecutionProvider"], {"CPUExecutionProvider": {}})
    assert [a.name for a in s._inputs_meta] == ["x", "shift"]
    assert [a.name for a in s._outputs_meta] == ["y", "z"]
    assert [a.name for a in s._overridable_initializers] == ["scale"]
    assert s._model_meta.graph_name == "test"
    np.testing.assert_array_equal(s._sess.run(["y"], FEEDS, None)[0], Y)
    s = session(ort)
    assert (s._model_path, s._model_bytes) == (None, MODEL)


def test_subclasses_may_be_pickled(ort: ModuleType, tmp_path: Path) -> None:
    path = str(tmp_path / "m.onnx")
    Path(path).write_bytes(MODEL)

    class Pickled(ort.InferenceSession):  # type: ignore[misc,name-defined]
        def __init__(self, path: str, **more: Any) -> None:
            super().__init__(path, **more)
            self.path = path

        def __getstate__(self) -> Any:
            return {"path": self.path}

        def __setstate__(self, state: Any) -> None:
            self.__init__(state["path"])  # type: ignore[misc]

    globals()["Pickled"] = Pickled
    Pickled.__qualname__ = "Pickled"
    copy = pickle.loads(pickle.dumps(Pickled(path, providers=["CPUExecutionProvider"])))
    np.testing.assert_array_equal(copy.run(["y"], FEEDS)[0], Y)
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(session(ort))


def test_unavailable_providers_are_warned_of(ort: ModuleType) -> None:
    with pytest.warns(UserWarning, match="Specified provider 'CUDAExecutionProvider' is not in available provider"):
        ort.InferenceSession(MODEL, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ort.InferenceSession(MODEL, providers=[("CPUExecutionProvider", {})])


@pytest.mark.parametrize(
    "body",
    [
        "a = Relu(x) y = GlobalAveragePool(a)", "y = Concat<axis=2>(x, x)", "s = Shape(x) y = Cast<to=1>(s)",
        "y = Transpose<perm=[3,0,1,2]>(x)",
    ],
)  # fmt: skip
def test_shapes_of_outputs_are_inferred(body: str, ort: ModuleType) -> None:
    text = f'<ir_version: 8, opset_import: ["" : 17]> g (float[n,3,8,t] x) => (y) {{ {body} }}'
    data = onnx.parser.parse_model(text).SerializeToString()
    expected = {
        "a = Relu(x) y = GlobalAveragePool(a)": ["n", 3, 1, 1],
        "y = Concat<axis=2>(x, x)": ["n", 3, 16, "t"],
        "s = Shape(x) y = Cast<to=1>(s)": [4],
        "y = Transpose<perm=[3,0,1,2]>(x)": ["t", "n", 3, 8],
    }
    (output,) = ort.InferenceSession(data).get_outputs()
    assert (output.type, output.shape) == ("tensor(float)", expected[body])


def test_profiles(ort: ModuleType, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    s = session(ort, options)
    assert s.get_profiling_start_time_ns() > 0
    np.testing.assert_array_equal(s.run(["y"], FEEDS)[0], Y)
    path = s.end_profiling()
    assert os.path.dirname(path) == str(tmp_path)
    events = json.loads(Path(path).read_text())
    assert {"Session", "Node"} == {event["cat"] for event in events}
    assert all(event["ph"] == "X" and event["dur"] >= 0 for event in events)
    kernels = [event for event in events if event["name"].endswith("_kernel_time")]
    assert {"op_name", "provider"} <= set(kernels[0]["args"])
    assert session(ort).end_profiling() == ""
    assert session(ort).get_profiling_start_time_ns() == 0


def test_events_of_a_profile_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "_MOST", 5)
    options = tinyonnx.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    s = session(tinyonnx, options)
    for _ in range(9):
        s.run(["y"], FEEDS)
    with pytest.warns(UserWarning, match=r"has 5 events, \d+ later ones were dropped"):
        path = s.end_profiling()
    assert len(json.loads(Path(path).read_text())) == 5


def test_the_optimised_model_is_written(ort: ModuleType, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session(ort, options)
    again = tinyonnx.InferenceSession(str(tmp_path / "optimised.onnx"))
    np.testing.assert_array_equal(again.run(["y"], FEEDS)[0], Y)


def test_external_data_of_a_model_from_bytes(ort: ModuleType, tmp_path: Path) -> None:
    weights = np.arange(1 << 19, dtype=np.float32).reshape(1, -1)
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n,1] x) => (float[n,m] y) { y = MatMul(x, w) }'
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    options = ort.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(tmp_path))
    s = ort.InferenceSession((tmp_path / "m.onnx").read_bytes(), options, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(s.run(None, {"x": np.full((1, 1), 2, np.float32)})[0], 2 * weights)


@pytest.mark.parametrize("from_bytes", [True, False])
def test_external_initializers_that_are_given(from_bytes: bool, ort: ModuleType, tmp_path: Path) -> None:
    weights = np.arange(12, dtype=np.float32).reshape(1, 12)
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n,1] x) => (float[n,m] y) { y = MatMul(x, w) }'
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "w.bin").unlink()
    options = ort.SessionOptions()
    options.add_external_initializers(["w"], [ort.OrtValue.ortvalue_from_numpy(weights)])
    source = (tmp_path / "m.onnx").read_bytes() if from_bytes else str(tmp_path / "m.onnx")
    s = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(s.run(None, {"x": np.full((1, 1), 2, np.float32)})[0], 2 * weights)
    wrong = ort.SessionOptions()
    wrong.add_external_initializers(["w"], [ort.OrtValue.ortvalue_from_numpy(weights[:, :2])])
    with pytest.raises(Exception, match=r"w|dimensions"):
        ort.InferenceSession(source, wrong, providers=["CPUExecutionProvider"])


def test_large_external_data_are_mapped(tmp_path: Path) -> None:
    from tinyonnx.onnxfile.external_data import ExternalData

    content = np.random.default_rng(0).integers(0, 256, 5 << 20, dtype=np.uint8)
    (tmp_path / "w.bin").write_bytes(content.tobytes())
    files = ExternalData(tmp_path)
    for offset, nbytes, mapped in ((0, 1 << 20, True), (64 + (1 << 20), 2 << 20, True), (3 << 20, 99, False),
                                   ((3 << 20) + 100, 1 << 20, False)):  # fmt: skip
        array = files.read("w.bin", offset, nbytes)
        assert (array.base is not None) == mapped
        assert not array.flags.writeable
        np.testing.assert_array_equal(array, content[offset : offset + nbytes])
    files.close()
    np.testing.assert_array_equal(array, content[(3 << 20) + 100 :][: 1 << 20])


def test_values_from_dlpack(ort: ModuleType) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    value = ort.OrtValue.from_dlpack(array)
    np.testing.assert_array_equal(value.numpy(), array)
    with pytest.raises(Exception, match=r"dlpack|DLPack"):
        ort.OrtValue.from_dlpack(3)


def test_a_callback_gets_log_messages(stand_in: ModuleType) -> None:
    import logging

    seen: list[Any] = []
    stand_in.set_default_logger_callback(lambda *event: seen.append(event))
    logging.getLogger("tinyonnx").warning("something")
    stand_in.set_default_logger_callback(None)
    logging.getLogger("tinyonnx").warning("something else")
    assert [(event[0], event[1], event[4]) for event in seen] == [(2, "tinyonnx", "something")]


def test_the_module_has_a_file_a_spec_and_a_distribution(stand_in: ModuleType) -> None:
    assert importlib.metadata.version("onnxruntime") == stand_in.__version__
    assert importlib.metadata.distribution("onnxruntime").metadata["Name"] == "onnxruntime"
    assert os.path.isfile(stand_in.__file__ or "")
    spec = importlib.util.find_spec("onnxruntime")
    assert spec is not None
    assert (spec.name, spec.origin) == ("onnxruntime", stand_in.__file__)
    assert importlib.metadata.version("numpy") == np.__version__
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("onnxruntime-no-such")
    importlib.invalidate_caches()
