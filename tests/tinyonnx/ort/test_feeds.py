"""Feeds that a session accepts, and those that it refuses."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.ort.test_session import CNN, session
from tests.tinyonnx.passes.conftest import data, model_text


def test_a_list_takes_the_type_that_is_wanted():
    s = session(model_text("y = Neg(x)", "float[2] x", "float[n] y"))
    np.testing.assert_array_equal(s.run(None, {"x": [1, 2.5]})[0], np.array([-1, -2.5], np.float32))


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "missing 'x'"),
        ({"x": data(1, 3, 4, 4), "z": data(1)}, "unknown 'z'"),
        ({"x": data(1, 3, 4, 4).astype(np.float64)}, r"expects tensor\(float\), got tensor\(double\)"),
        ({"x": data(1, 3, 4)}, r"expects shape \[batch, 3, height, width\], got \[1, 3, 4\]"),
        ({"x": data(1, 2, 4, 4)}, r"expects shape .* got \[1, 2, 4, 4\]"),
        ({"x": None}, "expects an array"),
        ({"x": [[1.0], [1.0, 2.0]]}, 'input "x"'),
        ({"x": np.array([None])}, "expects"),
    ],
)
def test_wrong_feeds_are_named(feeds, message):
    with pytest.raises(tinyonnx.InputError, match=message):
        session(CNN).run(None, feeds)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_number_may_be_fed_for_a_scalar_in_any_shape(shape):
    """onnxruntime takes [1], too, and other counts, which are not scalars."""
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[3] x, float w) => (float[3] y) { y = Add(x, w) }'
    model = onnx.parser.parse_model(text).SerializeToString()
    feeds = {"x": np.arange(3, dtype=np.float32), "w": np.full(shape, 2, np.float32)}
    assert tinyonnx.InferenceSession(model).run(None, feeds)[0].tolist() == [2, 3, 4]
    with pytest.raises(tinyonnx.InputError, match=r"expects shape \[\], got \[3\]"):
        tinyonnx.InferenceSession(model).run(None, {**feeds, "w": np.ones(3, np.float32)})


def test_feeds_in_any_memory_order():
    s = session(CNN)
    x = data(1, 3, 8, 6)
    (expected,) = s.run(None, {"x": x})
    strided = np.zeros((1, 3, 16, 6), np.float32)[:, :, ::2]
    strided[...] = x
    for variant in (strided, np.asfortranarray(x), x.astype(">f4")):
        np.testing.assert_array_equal(s.run(None, {"x": variant})[0], expected)
