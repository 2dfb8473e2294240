"""The pool of constants."""

from __future__ import annotations

import numpy as np
import pytest

from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.sizes.expressions import SizeError, Trace


def test_the_pool_keeps_what_derives_from_adopted_arrays_alone():
    pool = ConstantPool()
    weight, other = np.ones(3), np.ones(3)
    pool.adopt(weight)
    doubled = pool.derive("double", lambda w: w * 2, weight)
    assert pool.derive("double", lambda w: w * 2, weight) is doubled
    assert pool.derive("negate", lambda w: -w, doubled) is pool.derive("negate", lambda w: -w, doubled)
    assert pool.derive("double", lambda w: w * 2, other) is not pool.derive("double", lambda w: w * 2, other)


def test_constants_that_depend_on_sizes_are_refused():
    pool, weight = ConstantPool(), np.ones(3)
    pool.adopt(weight)
    with pytest.raises(SizeError, match="a constant depends on sizes"):
        pool.derive(("spread", (2, Trace().symbol("n", 5))), lambda w: w, weight)
