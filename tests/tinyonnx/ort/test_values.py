"""`OrtValue` and `OrtDevice`, here and in onnxruntime."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

import tinyonnx
from tests.tinyonnx.ort.conftest import FEEDS, X, Y, session


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


def test_another_device_is_refused() -> None:
    with pytest.raises(tinyonnx.InputError, match="cuda"):
        tinyonnx.OrtValue.ortvalue_from_numpy(X, "cuda", 0)
