"""Products of dynamically quantised activations, as ONNX Runtime's quantiser writes them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.tinyonnx.passes.conftest import Optimised, model_text, unoptimised

Optimise = Callable[..., Optimised]

X = np.random.default_rng(0).normal(0, 2, (3, 4)).astype(np.float32)
WEIGHTS = "int8[4,2] w = {1,-2,3,-128,127,5,0,-7}, int8 wz = {3}"
BODY = """q, s, z = DynamicQuantizeLinear (x)
    m = MatMulInteger (q, w, z, wz)
    c = Cast <to = 1> (m)
    """


def equal(optimise: Optimise, text: str, *, fused: int, **feeds: np.ndarray) -> Optimised:
    """Optimise, and require the bits of the numpy operators' results."""
    expected = unoptimised(text, **feeds)
    result = optimise(text, expected=expected, **feeds)
    assert result.error == 0
    assert result.ops["MatMulIntegerToFloat"] == fused
    return result


@pytest.mark.parametrize("scales", ["float ws = {0.125}", "float[1] ws = {0.3}", "float[2] ws = {0.1, 0.07}"])
@pytest.mark.parametrize("order", ["c, t", "t, c"])
@pytest.mark.parametrize("bias", ["y = Identity (p)", "y = Add (p, b)", "y = Add (b, p)"])
def test_pattern(optimise: Optimise, scales: str, order: str, bias: str) -> None:
    body = f"{BODY} t = Mul (s, ws) p = Mul ({order}) {bias}"
    text = model_text(body, "float[3,4] x", "float[3,2] y", f"{WEIGHTS}, {scales}, float[2] b = {{0.5, -1.3}}")
    result = equal(optimise, text, fused=1, x=X)
    assert not result.ops["Mul"] + result.ops["Cast"] + result.ops["Add"]


def test_a_scale_of_one_number(optimise: Optimise) -> None:
    body = f"{BODY} y = Mul (c, s)"
    equal(optimise, model_text(body, "float[3,4] x", "float[3,2] y", WEIGHTS), fused=1, x=X)


def test_refusals(optimise: Optimise) -> None:
    scales = f"{WEIGHTS}, float[2] ws = {{0.1, 0.07}}, float[3,1] rows = {{1, 2, 3}}"
    scales += ", float[3,2] b = {1, 2, 3, 4, 5, 6}"

    def refused(body: str, outputs: str = "float[3,2] y", fused: int = 0) -> Optimised:
        return equal(optimise, model_text(f"{BODY} {body}", "float[3,4] x", outputs, scales), fused=fused, x=X)

    shared = refused("t = Mul (s, ws) y = Mul (c, t) v = Identity (m)", "float[3,2] y, int32[3,2] v")
    assert shared.refused("its output is read")
    assert refused("t = Mul (s, rows) y = Mul (c, t)").refused("neither one number nor one for each column")
    assert refused("t = Mul (s, ws) p = Mul (c, t) y = Add (p, b)", fused=1).ops["Add"] == 1
