"""What packages do with onnxruntime, done with it and with tinyonnx under its name."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import onnx.parser
import onnxruntime as real
import pytest

import tinyonnx

MODEL = onnx.parser.parse_model("""
    <ir_version: 8, opset_import: ["": 17]>
    test (float[batch, 3] x, float[3] scale, float[3] shift) => (float[batch, 3] y, float[batch, 3] z)
        <float[3] scale = {1, 2, 3}, float[3] inner = {0, 0, 1}>
    {
        s = Mul(x, scale)
        y = Add(s, shift)
        z = Add(y, inner)
    }
""").SerializeToString()
X = np.arange(6, dtype=np.float32).reshape(2, 3)
SHIFT = np.array([10, 20, 30], np.float32)
FEEDS = {"x": X, "shift": SHIFT}
Y = X * [1, 2, 3] + SHIFT


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    for name in [n for n in sys.modules if n.split(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    tinyonnx.install_as_onnxruntime()
    import onnxruntime

    yield onnxruntime
    for name in [n for n in sys.modules if n.split(".")[0] == "onnxruntime"]:
        del sys.modules[name]


@pytest.fixture(params=["onnxruntime", "tinyonnx"])
def ort(request: pytest.FixtureRequest) -> ModuleType:
    """Either of them: a test that holds for both shows that they agree."""
    module: ModuleType = real if request.param == "onnxruntime" else request.getfixturevalue("stand_in")
    return module


def session(ort: ModuleType, options: Any = None) -> Any:
    return ort.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])


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
        with pytest.raises(ModuleNotFoundError, match=rf"onnxruntime\.{part.split('.')[0]} is a part of ONNX Runtime"):
            importlib.import_module(f"onnxruntime.{part}")
    with pytest.raises(ModuleNotFoundError, match="No module named 'onnxruntimes'"):
        importlib.import_module("onnxruntimes")
    with pytest.raises(NotImplementedError, match="tinyonnx profile"):
        session(stand_in).end_profiling()


def test_functions_of_the_process(ort: ModuleType) -> None:
    ort.preload_dlls(cuda=False, directory="")
    ort.disable_telemetry_events()
    ort.set_default_logger_severity(3)
    assert isinstance(ort.get_build_info(), str)
    noise = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]> noise () => (float[4] y) { y = RandomNormal<shape = [4]>() }
    """).SerializeToString()
    drawn = []
    for seed in (7, 7, 8):
        ort.set_seed(seed)
        made = ort.InferenceSession(noise, providers=["CPUExecutionProvider"])
        drawn.append([made.run(None, {})[0] for _ in range(2)])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(*drawn[0])
    assert not np.array_equal(drawn[0], drawn[2])


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


def test_options_are_taken(ort: ModuleType) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 4
    options.enable_mem_pattern = options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    ort.set_default_logger_severity(3)
    run_options = ort.RunOptions()
    run_options.log_severity_level = 4
    y, _ = session(ort, options).run(None, FEEDS, run_options)
    np.testing.assert_array_equal(y, Y)
    s = ort.InferenceSession(path_or_bytes=MODEL, sess_options=options, providers=[("CPUExecutionProvider", {})])
    np.testing.assert_array_equal(s.run(output_names=["y"], input_feed=FEEDS)[0], Y)


def test_free_dimensions(ort: ModuleType) -> None:
    options = ort.SessionOptions()
    options.add_free_dimension_override_by_name("batch", 2)
    s = session(ort, options)
    assert s.get_inputs()[0].shape == [2, 3]
    np.testing.assert_array_equal(s.run(["y"], FEEDS)[0], Y)
    with pytest.raises(Exception, match="x"):
        s.run(["y"], {"x": X[:1], "shift": SHIFT})


def test_an_initializer_that_is_an_input_may_be_fed(ort: ModuleType) -> None:
    s = session(ort)
    for scale in ([1, 2, 3], [0, 0, 1]):
        given = {"scale": np.array(scale, np.float32)} if scale[0] == 0 else {}
        np.testing.assert_array_equal(s.run(["y"], FEEDS | given)[0], X * scale + SHIFT)
    with pytest.raises(Exception, match="inner"):
        s.run(["z"], FEEDS | {"inner": SHIFT})


def test_initializers_replaced_by_options(ort: ModuleType) -> None:
    options = ort.SessionOptions()
    value = ort.OrtValue.ortvalue_from_numpy(np.array([0, 0, 7], np.float32))
    options.add_initializer("inner", value)
    np.testing.assert_array_equal(session(ort, options).run(["z"], FEEDS)[0], np.add(Y, [0, 0, 7]))


def test_a_missing_feed_is_a_value_error(ort: ModuleType) -> None:
    with pytest.raises(ValueError, match="shift"):
        session(ort).run(None, {"x": X})


def test_values(ort: ModuleType) -> None:
    value = ort.OrtValue.ortvalue_from_numpy(X.copy(), "cpu", 0)
    assert (value.shape(), value.data_type(), value.element_type()) == ([2, 3], "tensor(float)", 1)
    assert (value.device_name().lower(), value.is_tensor(), value.has_value()) == ("cpu", True, True)
    assert value.tensor_size_in_bytes() == 24
    np.testing.assert_array_equal(value.numpy(), X)
    value.update_inplace(X + 1)
    np.testing.assert_array_equal(value.numpy(), X + 1)
    empty = ort.OrtValue.ortvalue_from_shape_and_type([4, 5], np.int64, "cpu", 0)
    assert (empty.shape(), empty.data_type()) == ([4, 5], "tensor(int64)")
    values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in FEEDS.items()}
    (y,) = session(ort).run_with_ort_values(["y"], values)
    np.testing.assert_array_equal(y.numpy(), Y)


def test_bindings(ort: ModuleType) -> None:
    s = session(ort)
    binding = s.io_binding()
    binding.bind_cpu_input("x", X)
    binding.bind_input("shift", "cpu", 0, np.float32, [3], SHIFT.ctypes.data)
    own = np.zeros((2, 3), np.float32)
    binding.bind_output("y", "cpu", 0, np.float32, [2, 3], own.ctypes.data)
    binding.bind_output("z")
    s.run_with_iobinding(binding)
    np.testing.assert_array_equal(own, Y)
    y, z = binding.copy_outputs_to_cpu()
    np.testing.assert_array_equal(y, Y)
    np.testing.assert_array_equal(z, np.add(Y, [0, 0, 1]))
    binding.clear_binding_outputs()
    target = ort.OrtValue.ortvalue_from_shape_and_type([2, 3], np.float32)
    binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(X + 1))
    binding.bind_ortvalue_output("y", target)
    s.run_with_iobinding(binding)
    np.testing.assert_array_equal(target.numpy(), (X + 1) * [1, 2, 3] + SHIFT)
    assert len(binding.get_outputs()) == 1


def test_asynchronous_runs(ort: ModuleType) -> None:
    options, done, seen = ort.SessionOptions(), threading.Event(), []
    options.intra_op_num_threads = 2

    def callback(results: Any, user_data: Any, error: str) -> None:
        seen.append((results, user_data, error))
        done.set()

    session(ort, options).run_async(["y"], FEEDS, callback, "mine")
    assert done.wait(30)
    ((results, user_data, error),) = seen
    np.testing.assert_array_equal(results[0], Y)
    assert (user_data, error) == ("mine", "")


def test_another_device_is_refused() -> None:
    with pytest.raises(tinyonnx.InputError, match="cuda"):
        tinyonnx.OrtValue.ortvalue_from_numpy(X, "cuda", 0)


def test_a_run_is_ended_from_another_thread() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]>
        test (float[n] x) => (float[n] y) {
            n = Constant<value = int64 {1000000}>()
            go = Constant<value = bool {1}>()
            y = Loop(n, go, x) <body = once (int64 i, bool go_in, float[n] a) => (bool go_out, float[n] b) {
                go_out = Identity(go_in)
                b = Sin(a)
            }>
        }
    """)
    options = tinyonnx.RunOptions()
    threading.Timer(0.2, lambda: setattr(options, "terminate", True)).start()
    with pytest.raises(tinyonnx.ResourceError, match="terminate"):
        tinyonnx.InferenceSession(model.SerializeToString()).run(None, {"x": np.ones(3, np.float32)}, options)
