"""Empty optional inputs."""

from __future__ import annotations

from tests.tinyonnx.passes.conftest import data, model_text


def test_empty_roi_is_absent(optimise):
    text = model_text(
        'y = Resize<mode = "nearest", nearest_mode = "floor">(x, roi, scales)',
        "float[1, 2, 3, 3] x", "float[1, 2, 6, 6] y", "float[0] roi = {}, float[4] scales = {1, 1, 2, 2}", opset=11,
    )  # fmt: skip
    result = optimise(text, x=data(1, 2, 3, 3))
    (node,) = result.graph.nodes
    assert node.inputs[1] is None
    assert result.error == 0
