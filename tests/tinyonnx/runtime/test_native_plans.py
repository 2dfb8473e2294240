"""Plans of native code for many sizes hold for none to which their assumptions don't apply."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import tinyonnx
from tinyonnx.native.sized import plan_for_size
from tinyonnx.runtime.plan import Unfit
from tinyonnx.sizes.expressions import SMALLEST


def test_a_plan_for_many_sizes_holds_for_none_below_the_smallest() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[T] x) => (float[T] y) { y = Relu (x) }'
    )
    session = tinyonnx.InferenceSession(model.SerializeToString())
    plan = plan_for_size(session, ["y"], {"x": np.zeros(4, np.float32)}, "x", 0)
    plan.bindings_for((SMALLEST,))
    for size in range(SMALLEST):
        with pytest.raises(Unfit):
            plan.bindings_for((size,))
