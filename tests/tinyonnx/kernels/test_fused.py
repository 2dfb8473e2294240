"""Every kernel of a fused operator equals the composition that defines the operator."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tinyonnx.kernels.fast import assert_close, run
from tests.tinyonnx.kernels.test_conv import ACTIVATIONS, noise
from tinyonnx.ir import Array
from tinyonnx.registry import FUSED, registered

CONV = noise(0, 2, 20, 6, 13), noise(1, 20, 20, 1, 1) / 4, noise(2, 20), noise(3, 2, 20, 6, 13)
DEPTHWISE = noise(0, 2, 20, 6, 13), noise(1, 20, 1, 3, 3) / 4, noise(2, 20), noise(3, 2, 20, 6, 13)
GENERAL = noise(0, 2, 20, 6, 13), noise(1, 20, 20, 3, 3) / 16, noise(2, 20), noise(3, 2, 20, 6, 13)
SAME: dict[str, Any] = {"pads": [1, 1, 1, 1]}

SAMPLES: dict[str, list[tuple[tuple[Array, ...], tuple[int, ...], dict[str, Any]]]] = {
    "FusedConv": [
        (CONV, (1, 2), {}),
        (DEPTHWISE, (1, 2), {"group": 20, **SAME}),
        (GENERAL, (1, 2), SAME),
        (GENERAL, (2,), SAME),  # computed weights
    ],
    "DepthwisePointwise": [
        (
            (
                noise(0, 2, 20, 6, 13),
                noise(1, 20, 1, 3, 3) / 4,
                noise(2, 20),
                noise(3, 40, 20, 1, 1) / 4,
                noise(4, 40),
                noise(5, 2, 40, 6, 13),
            ),
            (1, 2, 3, 4),
            {"group": 20, **SAME},
        )
    ],
    "ExpandDepthwise": [
        (
            (noise(0, 2, 20, 6, 13), noise(1, 40, 20, 1, 1) / 4, noise(2, 40), noise(3, 40, 1, 3, 3) / 4, noise(4, 40)),
            (1, 2, 3, 4),
            {"group": 40, **SAME},
        )
    ],
    "FusedGemm": [((noise(0, 9, 20), noise(1, 20, 33) / 4, noise(2, 33)), (1, 2), {})],
    "Linear": [((noise(0, 2, 9, 20), noise(1, 20, 33) / 4, noise(2, 33), noise(3, 2, 9, 33)), (1, 2), {})],
    "GatedConv": [
        (
            (
                noise(0, 2, 20, 6, 13),
                noise(1, 2, 20, 1, 1),
                noise(2, 40, 20, 1, 1) / 4,
                noise(3, 40),
                noise(4, 2, 40, 6, 13),
            ),
            (2, 3),
            {},
        )
    ],
    "Stem": [
        (
            (
                noise(0, 2, 1, 11, 37),
                noise(1, 16, 1, 3, 3) / 3,
                noise(2, 16),
                noise(3, 16, 1, 3, 3) / 3,
                noise(4, 16),
                noise(5, 16, 16, 1, 1) / 4,
                noise(6, 16),
            ),
            (1, 2, 3, 4, 5, 6),
            {"stem_strides": [2, 2], "stem_pads": [1, 1, 1, 1], "residual": 1, "group": 16, **SAME},
        )
    ],
    "SqueezeGate": [
        ((noise(0, 2, 20, 6, 13), noise(1, 20, 5), noise(2, 5), noise(3, 5, 20), noise(4, 20)), (1, 2, 3, 4), {})
    ],
}


WITHOUT_ACTIVATION = {
    "ByteTable": 1,
    "QuantizedAdd": 1,
    "QuantizedMul": 1,
    "FusedAttention": 1,
    "ConvIntegerToFloat": 1,
    "LSTM": 1,
    "GRU": 1,
    "RNN": 1,
    "TableRows": 1,
    "BoundedNonMaxSuppression": 1,
}
"""Numbers of kernels of the other fused operators: tests of `test_quantized_elementwise`, `test_quantized_conv`,
`test_attention`, `test_recurrent`, `test_indexing` and `test_detection`."""


def test_every_fused_kernel_has_a_sample() -> None:
    """Each sample is taken by a kernel of its own, so that every kernel is tested."""
    kernels = {entry.name: len(entry.fast) for entry in registered() if entry.domain == FUSED and entry.fast}
    samples = {name: len(samples) for name, samples in SAMPLES.items()}
    assert kernels == {**samples, **WITHOUT_ACTIVATION}


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.get("activation", "linear"))
@pytest.mark.parametrize("name", SAMPLES)
def test_kernel_equals_composition(name: str, activation: dict[str, Any]) -> None:
    for inputs, constants, attributes in SAMPLES[name]:
        assert_close(*run(name, *inputs, constants=constants, fused=True, **attributes, **activation))
