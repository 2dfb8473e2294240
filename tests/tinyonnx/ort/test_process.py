"""Functions of the process, here and in onnxruntime."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import onnx.parser


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
