"""Empty optional inputs."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.passes.conftest import data, model_text


def test_empty_roi_is_absent(optimise):
    text = model_text(
        'y = Resize<mode = "nearest", nearest_mode = "floor", coordinate_transformation_mode = "asymmetric">'
        '(x, roi, scales)',
        "float[1, 2, 3, 3] x", "float[1, 2, 6, 6] y", "float[0] roi = {}, float[4] scales = {1, 1, 2, 2}", opset=11,
    )  # fmt: skip
    result = optimise(text, x=data(1, 2, 3, 3))
    (node,) = result.graph.nodes
    assert node.inputs[1] is None
    assert result.error == 0


@pytest.mark.parametrize("element", ["float", "double", "uint8"])
def test_every_type_takes_absent_inputs(optimise, element):
    """In opset 11 roi and scales are required; types without a kernel are checked against its schema."""
    text = model_text(
        'y = Resize<mode = "nearest", nearest_mode = "floor", coordinate_transformation_mode = "asymmetric">'
        '(x, roi, scales)',
        f"{element}[1, 2, 3, 3] x", f"{element}[1, 2, 6, 6] y", "float[0] roi = {}, float[4] scales = {1, 1, 2, 2}",
        opset=11,
    )  # fmt: skip
    x = np.arange(18).reshape(1, 2, 3, 3).astype({"float": np.float32, "double": np.float64}.get(element, np.uint8))
    result = optimise(text, [x.repeat(2, 2).repeat(2, 3)], x=x)
    assert result.graph.nodes[0].inputs[1] is None
    assert result.error == 0


def test_what_is_not_empty_stays(optimise):
    text = model_text(
        'y = Resize<nearest_mode = "floor", coordinate_transformation_mode = "tf_crop_and_resize">(x, roi, scales)',
        "float[1, 2, 3, 3] x", "float[1, 2, 6, 6] y",
        "float[8] roi = {0, 0, 0, 0, 1, 1, 0.5, 0.5}, float[4] scales = {1, 1, 2, 2}",
    )  # fmt: skip
    result = optimise(text, x=data(1, 2, 3, 3))
    assert result.graph.nodes[0].inputs[1] is not None
    assert result.error == 0


def test_an_empty_image_is_no_option(optimise):
    text = model_text(
        "y = Resize(x, roi, scales)", "float[0] x", "float[n] y", "float[0] roi = {}, float[1] scales = {2}", opset=11
    )
    result = optimise(text, [np.empty(0, np.float32)], x=np.empty(0, np.float32))
    assert result.graph.nodes[0].inputs[0] is not None


def test_other_operators_keep_their_empty_inputs(optimise):
    text = model_text("y = Concat<axis=0>(x, none)", "float[3] x", "float[n] y", "float[0] none = {}")
    result = optimise(text, x=data(3))
    assert None not in result.graph.nodes[0].inputs
    assert result.error == 0
