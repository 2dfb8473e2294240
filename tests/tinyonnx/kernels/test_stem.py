"""Three convolutions in one step, against their composition in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tinyonnx.kernels.fast import assert_close, run
from tests.tinyonnx.kernels.test_conv import ACTIVATIONS, noise
from tinyonnx.codegen.primitives import LANES, ROWS_1

# each is compiled for itself: channels, filters, kernel and strides of the first convolution; depthwise taps and stride
SPECIALISED = [
    (1, 8, (3, 3), (2, 2), 3, 1),
    (1, 16, (3, 3), (2, 2), 3, 1),
    (1, 40, (3, 3), (2, 2), 5, 1),
    (2, 24, (1, 5), (2, 3), 1, 1),
    (1, 48, (3, 3), (2, 2), 3, 1),
    (3, 40, (2, 5), (1, 2), 2, 1),
    (3, 1, (5, 3), (2, 1), 5, 2),
]


@given(data=st.data())
@settings(max_examples=60)
def test_geometry(data: st.DataObject) -> None:
    draw = data.draw
    channels, c, kernel, strides, size, stride = draw(st.sampled_from(SPECIALISED), "specialised")
    pads = [draw(st.integers(0, 2), "pad") for _ in range(4)]
    smallest = [max(k - p - q, 1) for k, p, q in zip(kernel, pads[:2], pads[2:])]
    space = [draw(st.integers(low, low + most), "size") for low, most in zip(smallest, (16, 4 * ROWS_1))]
    x = noise(0, draw(st.integers(1, 3), "batch"), channels, *space)
    middle = [(s + p + q - k) // d + 1 for s, p, q, k, d in zip(space, pads[:2], pads[2:], kernel, strides)]
    residual = size == 3 and stride == 1 and draw(st.booleans(), "residual")
    before = 1 if residual else draw(st.integers(0, size - 1), "before")
    after = 1 if residual else draw(st.integers(max(size - before - min(middle), 0), size), "after")
    n = c if residual else draw(st.sampled_from([1, LANES, LANES + 3]), "n")
    attributes = dict(draw(st.sampled_from(ACTIVATIONS), "activation"))
    attributes |= {f"stem_{k}": v for k, v in draw(st.sampled_from(ACTIVATIONS), "first").items()}
    attributes |= {f"depthwise_{k}": v for k, v in draw(st.sampled_from(ACTIVATIONS), "second").items()}
    biases = [noise(i, m) if draw(st.booleans(), "bias") else None for i, m in ((3, c), (4, c), (5, n))]
    geometry: dict[str, Any] = {
        "stem_strides": list(strides), "stem_pads": pads, "residual": int(residual), "strides": [stride, stride],
        "pads": [before, before, after, after], "group": c,
    }  # fmt: skip
    # sums of the size of their terms, so that rounding errors stay small beside clipped results
    first, taps, w = noise(1, c, channels, *kernel) / 4, noise(2, c, 1, size, size) / 4, noise(6, n, c, 1, 1) / 4
    inputs = x, first, biases[0], taps, biases[1], w, biases[2]
    constants = (1, 2, 3, 4, 5, 6)
    assert_close(*run("Stem", *inputs, constants=constants, fused=True, **geometry, **attributes))


def test_nan_and_infinity_stay_where_they_are() -> None:
    for special in (np.nan, np.inf):
        x = noise(0, 1, 1, 12, 80)
        x[0, 0, 6, 30] = special
        weights = noise(1, 16, 1, 3, 3), None, noise(2, 16, 1, 3, 3), None, noise(3, 16, 16, 1, 1), None
        geometry: dict[str, Any] = {"stem_strides": [2, 2], "stem_pads": [1] * 4, "residual": 1}
        geometry |= {"pads": [1] * 4, "group": 16}
        actual, expected = run("Stem", x, *weights, constants=(1, 2, 3, 4, 5, 6), fused=True, **geometry)
        assert_close(actual, expected)
        assert np.isfinite(actual[..., :10]).all()
        assert not np.isfinite(actual[0, :, 3, 15]).any()
