"""Activations that are not fused, everywhere that float32 reaches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tinyonnx.kernels.fast import assert_close, choose, run
from tests.tinyonnx.kernels.test_unary import values
from tinyonnx.registry import Info, lookup

CASES: list[tuple[str, dict[str, Any]]] = [
    ("Elu", {}),
    ("Elu", {"alpha": 0.3}),
    ("Elu", {"alpha": -0.3}),
    ("Selu", {}),
    ("Selu", {"alpha": 2.0, "gamma": 0.5}),
    ("Selu", {"alpha": 2.0, "gamma": -0.5}),
    ("Celu", {}),
    ("Celu", {"alpha": 2.5}),
    ("Softplus", {}),
    ("Mish", {}),
    ("ThresholdedRelu", {}),
    ("ThresholdedRelu", {"alpha": -2.0}),
    ("Softsign", {}),
]


@pytest.mark.filterwarnings("ignore:.*encountered in")
@pytest.mark.parametrize(("name", "attributes"), CASES)
@pytest.mark.parametrize("layout", ["row_major", "channels_last"])
def test_values(name: str, attributes: dict[str, Any], layout: str) -> None:
    x = values()
    if name in ("Softsign", "Mish"):
        x = np.where(np.isinf(x), np.float32(0), x)  # inf / inf
    if attributes.get("alpha", 1) < 0 and name == "ThresholdedRelu":
        x.flat[:3] = 0
    assert_close(*run(name, x, layout=layout, **attributes), tolerance=5e-7)
    assert_close(*run(name, x, layout=layout, in_place=True, **attributes), tolerance=5e-7)


def test_attributes_of_the_first_version() -> None:
    assert_close(*run("Selu", values()[..., 10:], opset=5), tolerance=5e-7)


@pytest.mark.parametrize(("name", "exact"), [("Elu", np.expm1), ("Softplus", lambda x: np.log1p(np.exp(x)))])
def test_accurate_near_zero_and_far_below(name: str, exact: Any) -> None:
    x = -np.geomspace(1e-30, 80, 20001).astype(np.float32)
    np.testing.assert_allclose(run(name, x)[0], exact(x.astype(np.float64)), rtol=4e-7)


def test_refusals() -> None:
    x = Info(np.dtype(np.float32), (3,))
    assert "not positive" in str(choose(lookup("", "Celu", 22), x, [x], {"alpha": -1.0}))
    assert "constant" in str(choose(lookup("", "Elu", 22), x, [x._replace(value=np.ones(3, np.float32))], {}))
    wide = Info(np.dtype(np.float64), (3,))
    assert "float64" in str(choose(lookup("", "Mish", 22), wide, [wide], {}))
