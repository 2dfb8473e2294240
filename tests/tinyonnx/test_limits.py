"""Limits."""

from __future__ import annotations

import pytest

from tinyonnx.limits import Limits


def test_limits_make_sense():
    for wrong in ({"max_nodes": -1}, {"max_tensor_bytes": -1}, {"max_depth": -1}, {"max_seconds": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Limits(**wrong)
