"""`IOBinding`, here and in onnxruntime."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from tests.tinyonnx.ort.conftest import SHIFT, X, Y, session


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
