from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.kernels.fast import assert_close, run
from tests.tinyonnx.kernels.test_conv import noise


@pytest.mark.parametrize(
    ("shape", "target"),
    [((2, 3, 4, 5), [6, -1]), ((1, 960, 1, 1), [1, 960]), ((7,), [7, 1, 1]), ((2, 6), [0, 3, 2])],
)
def test_reshape(shape, target):
    assert_close(*run("Reshape", noise(0, *shape), np.array(target), constants=(1,)))
