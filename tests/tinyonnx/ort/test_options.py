"""Options of sessions and runs, here and in onnxruntime."""

from __future__ import annotations

import threading
from types import ModuleType

import numpy as np
import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.ort.conftest import FEEDS, MODEL, SHIFT, X, Y, session


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


def test_initializers_replaced_by_options(ort: ModuleType) -> None:
    options = ort.SessionOptions()
    value = ort.OrtValue.ortvalue_from_numpy(np.array([0, 0, 7], np.float32))
    options.add_initializer("inner", value)
    np.testing.assert_array_equal(session(ort, options).run(["z"], FEEDS)[0], np.add(Y, [0, 0, 7]))


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


def test_precision_is_one_of_two() -> None:
    options = tinyonnx.SessionOptions()
    assert options.precision == "float32"
    options.precision = "bfloat16"
    with pytest.raises(ValueError, match="float32 or bfloat16, not 'int8'"):
        options.precision = "int8"


def test_a_processor_without_bfloat16_runs_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    options = tinyonnx.SessionOptions()
    options.precision = "bfloat16"
    monkeypatch.setattr("tinyonnx.ort.session.has_bfloat16", lambda: False)
    monkeypatch.setattr("tinyonnx.ort.session.DISABLED", False)
    s = tinyonnx.InferenceSession(MODEL, options)
    assert s.precision == "float32"
    np.testing.assert_array_equal(s.run(["y"], FEEDS)[0], Y)
