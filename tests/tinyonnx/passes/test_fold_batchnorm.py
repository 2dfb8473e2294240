"""BatchNormalization folded into convolutions, and where that would be wrong."""

from __future__ import annotations

import pytest

from tests.tinyonnx.passes.conftest import data, floats, model_text


def _bn(name: str, channels: int) -> str:
    return ", ".join(floats(f"{name}{p}", channels, positive=p in "gv") for p in "gbmv")


@pytest.mark.parametrize(
    ("op", "weight", "bias", "attributes"),
    [
        ("Conv", (6, 4, 3, 3), True, "pads=[1,1,1,1]"),
        ("Conv", (6, 4, 1, 1), False, "strides=[2,2]"),
        ("Conv", (4, 1, 5, 5), False, "group=4, pads=[2,2,2,2]"),
        ("Conv", (6, 2, 3, 3), True, "group=2"),
        ("ConvTranspose", (4, 6, 3, 3), True, "strides=[2,2]"),
        ("ConvTranspose", (4, 3, 3, 3), True, "group=2"),
    ],
)
def test_batchnorm_folds_into_the_convolution_before_it(optimise, op, weight, bias, attributes):
    group = 2 if "group=2" in attributes else 1
    channels = weight[0] if op == "Conv" else weight[1] * group
    body = f"""c = {op}<{attributes}>(x, w{", b" if bias else ""})
               y = BatchNormalization<epsilon=0.001>(c, ng, nb, nm, nv)"""
    weights = ", ".join([floats("w", *weight), *([floats("b", channels)] if bias else []), _bn("n", channels)])
    result = optimise(model_text(body, "float[2,4,9,8] x", "float[n,c,h,k] y", weights), x=data(2, 4, 9, 8))
    assert set(result.ops) == {op}
    assert result.error < 2e-5


def test_batchnorm_stays_where_the_convolution_is_read_elsewhere(optimise):
    body = """c = Conv(x, w)
              y = BatchNormalization(c, ng, nb, nm, nv)
              z = Relu(c)"""
    weights = f"{floats('w', 3, 4, 1, 1)}, {_bn('n', 3)}"
    text = model_text(body, "float[1,4,5,5] x", "float[n,c,h,k] y, float[n,c,h,k] z", weights)
    result = optimise(text, x=data(1, 4, 5, 5))
    assert result.ops["BatchNormalization"] == 1
    assert any("fold_batchnorm: skipping y: its output is read by" in r for r in result.refusals())
    assert result.error < 1e-5
