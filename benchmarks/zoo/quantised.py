"""Models of bytes: QDQ and QOperator convolutions, dynamically quantised products, block-quantised weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.turns import Array
from benchmarks.zoo import Model, noise, zoo_model
from benchmarks.zoo._builder import Builder, Result

MICROSOFT = "com.microsoft"
SCALE = np.float32(16 / 255)
"""Scale of activations, which are in the range from -8 to 8."""


class _Bytes(Builder):
    """A builder of quantised graphs: activations are uint8, weights int8 with a scale per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = self.constant(SCALE)
        self.zero = self.constant(np.uint8(128))

    def quantise(self, x: str) -> str:
        return self.add("QuantizeLinear", x, self.scale, self.zero)

    def floats(self, x: str) -> str:
        return self.add("DequantizeLinear", x, self.scale, self.zero)

    def kernel(self, filters: int, channels: int, size: int) -> tuple[Array, Array, Array]:
        """Add weights, their scales by channel, and an int32 bias."""
        w = self.random.integers(-127, 128, (filters, channels, size, size)).astype(np.int8)
        spread = np.sqrt(2 / (channels * size * size)) / 73
        scales = (spread * self.random.uniform(0.8, 1.2, filters)).astype(np.float32)
        bias = self.random.integers(-50, 50, filters).astype(np.int32)
        return w, scales, bias

    def qdq_conv(self, x: str, channels: int, filters: int, size: int = 1, stride: int = 1, group: int = 1) -> str:
        """Add a convolution between DequantizeLinear and QuantizeLinear, with Relu."""
        w, scales, bias = self.kernel(filters, channels // group, size)
        weights = self.add("DequantizeLinear", self.constant(w), self.constant(scales), axis=0)
        shift = self.add("DequantizeLinear", self.constant(bias), self.constant(scales * SCALE), axis=0)
        pads = [size // 2] * 4
        y = self.add("Conv", self.floats(x), weights, shift, pads=pads, strides=[stride] * 2, group=group)
        return self.quantise(self.add("Relu", y))

    def q_conv(self, x: str, channels: int, filters: int, size: int = 1, stride: int = 1, group: int = 1) -> str:
        """Add the same convolution as QLinearConv."""
        w, scales, zeros, bias = map(self.constant, self._with_zeros(*self.kernel(filters, channels // group, size)))
        quantised = (x, self.scale, self.zero, w, scales, zeros, self.scale, self.zero, bias)
        return self.add("QLinearConv", *quantised, pads=[size // 2] * 4, strides=[stride] * 2, group=group)

    def dynamic(self, x: str, features: int, outputs: int) -> str:
        """Add a product of dynamically quantised rows with int8 weights, and a bias."""
        y = self.add("DynamicQuantizeLinear", x, outputs=3)
        w = self.constant(self.random.integers(-127, 128, (features, outputs)).astype(np.int8))
        product = self.add("MatMulInteger", y, w, f"{y}_2", self.constant(np.int8(0)))
        scale = self.add("Mul", f"{y}_1", self.constant(np.float32(1 / 73 / np.sqrt(features))))
        scaled = self.add("Mul", self.add("Cast", product, to=1), scale)
        return self.add("Add", scaled, self.normal(outputs))

    @staticmethod
    def _with_zeros(w: Array, scales: Array, bias: Array) -> tuple[Array, ...]:
        return w, scales, np.zeros(len(w), np.int8), bias


def _blocks(conv: Callable[..., str], add: Callable[[str, str], str], x: str) -> str:
    """Add a convolution of the image and residual blocks; return their result of 128 channels."""
    x, channels = conv(x, 3, 32, 3, 2), 32
    for filters, stride in ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
        y = conv(conv(x, channels, filters, 3, stride), filters, filters, 3)
        if stride > 1 or channels != filters:
            x = conv(x, channels, filters, 1, stride)
        x, channels = add(y, x), filters
    return x


_IMAGE = {"x": (np.float32, [1, 3, 96, 96])}


@zoo_model("resnet-qdq", tolerance=0.3)
def resnet_qdq() -> Model:
    """Build residual blocks between QuantizeLinear and DequantizeLinear."""
    b = _Bytes()
    x = _blocks(b.qdq_conv, lambda y, x: b.quantise(b.add("Add", b.floats(y), b.floats(x))), b.quantise("x"))
    y = b.add("Flatten", b.add("GlobalAveragePool", b.floats(x)))
    return b.content(_IMAGE, Result(b.linear(y, 128, 10), 2)), {"x": noise(1, 3, 96, 96)}


@zoo_model("resnet-qoperator", tolerance=0.3)
def resnet_qoperator() -> Model:
    """Build the same residual blocks with QLinearConv and QLinearAdd."""
    b = _Bytes()
    parameters = b.scale, b.zero
    x = _blocks(
        b.q_conv,
        lambda y, x: b.add("QLinearAdd", y, *parameters, x, *parameters, *parameters, domain=MICROSOFT),
        b.quantise("x"),
    )
    y = b.add("Flatten", b.add("GlobalAveragePool", b.floats(x)))
    content = b.content(_IMAGE, Result(b.linear(y, 128, 10), 2), domains=[MICROSOFT])
    return content, {"x": noise(1, 3, 96, 96)}


@zoo_model("mobile-qdq", tolerance=0.3)
def mobile_qdq() -> Model:
    """Build inverted residual blocks with depthwise convolutions."""
    b = _Bytes()
    x, channels = b.qdq_conv(b.quantise("x"), 3, 16, 3, 2), 16
    for filters, stride in ((24, 2), (24, 1), (40, 2), (40, 1), (80, 2)):
        wide = 4 * channels
        y = b.qdq_conv(b.qdq_conv(x, channels, wide), wide, wide, 3, stride, wide)
        y = b.qdq_conv(y, wide, filters)
        same = stride == 1 and channels == filters
        x = b.quantise(b.add("Add", b.floats(y), b.floats(x))) if same else y
        channels = filters
    y = b.add("Flatten", b.add("GlobalAveragePool", b.floats(x)))
    return b.content(_IMAGE, Result(b.linear(y, channels, 10), 2)), {"x": noise(1, 3, 96, 96)}


@zoo_model("text-encoder-dynamic", tolerance=0.2)
def text_encoder_dynamic() -> Model:
    """Build two layers of a transformer whose products are dynamically quantised: 32 words."""
    b = _Bytes()
    x = b.layer_norm(b.add("Gather", b.normal(1000, 256), "words"), 256)
    for _ in range(2):
        normed = b.layer_norm(x, 256)
        q, v = (b.heads(b.dynamic(normed, 256, 256), 256, 8) for _ in range(2))
        k = b.heads(b.dynamic(normed, 256, 256), 256, 8, keys=True)
        x = b.add("Add", x, b.dynamic(b.attend(q, k, v, 256, 8), 256, 256))
        x = b.add("Add", x, b.dynamic(b.gelu(b.dynamic(b.layer_norm(x, 256), 256, 1024)), 1024, 256))
    words = np.random.default_rng(2).integers(0, 1000, (1, 32))
    return b.content({"words": (np.int64, ["batch", "time"])}, Result(x, 3)), {"words": words}


@zoo_model("decoder-step-dynamic", tolerance=0.1)
def decoder_step_dynamic() -> Model:
    """Build one row through eight products of MatMulInteger, as in a decoder's step."""
    b = _Bytes()
    x = "x"
    for _ in range(4):
        x = b.add("Add", x, b.dynamic(b.add("Relu", b.dynamic(b.layer_norm(x, 256), 256, 1024)), 1024, 256))
    return b.content({"x": (np.float32, [1, 1, 256])}, Result(x, 3)), {"x": noise(1, 1, 256)}


@zoo_model("blocks-of-4-bits", tolerance=1e-2)
def blocks() -> Model:
    """Build products with weights of four bits in blocks of 32: one row."""
    b = Builder()
    x, features = "x", 256
    for outputs in (1024, 256, 1024, 256):
        packed = b.random.integers(0, 256, (outputs, features // 32, 16)).astype(np.uint8)
        scales = np.full(outputs * features // 32, 1 / 4.6 / np.sqrt(features), np.float32)
        x = b.add(
            "MatMulNBits", x, b.constant(packed), b.constant(scales), domain=MICROSOFT, K=features, N=outputs, bits=4,
            block_size=32,
        )  # fmt: skip
        features = outputs
    return b.content({"x": (np.float32, [1, 256])}, Result(x, 2), domains=[MICROSOFT]), {"x": noise(1, 256)}
