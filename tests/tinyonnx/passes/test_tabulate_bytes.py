"""Functions of one byte as tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.tinyonnx.passes.conftest import Optimised, model_text, unoptimised

X = np.arange(256, dtype=np.uint8).reshape(2, 4, 32)
NUMBERS = (
    "float s = {0.05}, uint8 z = {128}, float t = {0.04}, uint8 u = {7}, float half = {0.5}, float[2,4,1] rows = "
    "{1, 2, 3, 4, 5, 6, 7, 8}"
)


@pytest.fixture
def tables(optimise: Callable[..., Optimised]) -> Callable[..., Optimised]:
    """Optimise, require the bits of the numpy operators' results, and count tables."""

    def run(body: str, count: int, **feeds: np.ndarray) -> Optimised:
        feeds = feeds or {"x": X}
        inputs = ", ".join(f"uint8[2,4,32] {name}" for name in feeds)
        text = model_text(body, inputs, "uint8[2,4,32] y", NUMBERS)
        result = optimise(text, expected=unoptimised(text, **feeds), **feeds)
        assert result.error == 0
        assert result.ops["ByteTable"] == count
        return result

    return run


@pytest.mark.parametrize("function", ["HardSigmoid", "Sigmoid", "Tanh", "Relu", "Exp", "LeakyRelu <alpha = 0.3>"])
def test_activations(tables: Callable[..., Optimised], function: str) -> None:
    name, _, rest = function.partition(" ")
    body = f"d = DequantizeLinear (x, s, z) f = {name} {rest} (d) y = QuantizeLinear (f, t, u)"
    assert sum(tables(body, 1).ops.values()) == 1


@pytest.mark.parametrize("factors", ["e, d", "d, e"])
def test_a_function_in_two_branches(tables: Callable[..., Optimised], factors: str) -> None:
    body = f"""d = DequantizeLinear (x, s, z) f = HardSigmoid (d) q = QuantizeLinear (f, t, u)
        e = DequantizeLinear (q, t, u) g = Mul ({factors}) h = Add (g, half) y = QuantizeLinear (h, s, z)"""
    assert sum(tables(body, 1).ops.values()) == 1


def test_a_branch_that_begins_with_the_first_node(tables: Callable[..., Optimised]) -> None:
    body = "r = Mul (x, u) f = Add (x, r) d = DequantizeLinear (f, s, z) y = QuantizeLinear (d, t, u)"
    assert sum(tables(body, 1).ops.values()) == 1


def test_functions_of_more_are_left(tables: Callable[..., Optimised]) -> None:
    both = "d = DequantizeLinear (x, s, z) e = DequantizeLinear (v, s, z) f = Add (d, e) y = QuantizeLinear (f, t, u)"
    tables(both, 0, x=X, v=X[::-1].copy())
    tables("d = DequantizeLinear (x, s, z) f = Mul (d, rows) y = QuantizeLinear (f, t, u)", 0)
    tables("d = DequantizeLinear (x, s, z) f = Softmax (d) y = QuantizeLinear (f, t, u)", 0)


def test_arithmetic_of_bytes_is_left(tables: Callable[..., Optimised]) -> None:
    assert tables("y = Add (x, u)", 0).ops["Add"] == 1


def test_a_number_that_raises_the_rank_is_left(optimise: Callable[..., Optimised]) -> None:
    body = "d = DequantizeLinear (x, s, z) f = Mul (d, deep) y = QuantizeLinear (f, t, u)"
    constants = f"{NUMBERS}, float[1,1,1] deep = {{3}}"
    text = model_text(body, "uint8[4,32] x", "uint8[1,4,32] y", constants)
    result = optimise(text, expected=unoptimised(text, x=X[1]), x=X[1])
    assert result.error == 0
    assert not result.ops["ByteTable"]


def test_a_value_that_others_read_stays(tables: Callable[..., Optimised]) -> None:
    body = """d = DequantizeLinear (x, s, z) f = Sigmoid (d) q = QuantizeLinear (f, t, u) m = Softmax (f)
        e = DequantizeLinear (q, t, u) g = Add (m, e) y = QuantizeLinear (g, t, u)"""
    assert tables(body, 1).ops["Sigmoid"] == 1
