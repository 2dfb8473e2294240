"""Convolutional networks in float32: images and sound."""

from __future__ import annotations

from typing import Any

import numpy as np

from audiotag.models.mobilenet import random_graph
from benchmarks.zoo import Model, noise, zoo_model
from benchmarks.zoo._builder import Builder, Result
from tinyonnx.onnxfile.save import to_bytes


@zoo_model("resnet18", tolerance=1e-3)
def resnet18() -> Model:
    """Build residual blocks of 3×3 convolutions over an image of 224×224 pixels."""
    b = Builder()
    x = b.add("Relu", b.conv("x", 3, 64, 7, stride=2))
    x = b.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for filters, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        y = b.conv(b.add("Relu", b.conv(x, channels, filters, 3, stride=stride)), filters, filters, 3)
        same = stride == 1 and channels == filters
        x = b.add("Relu", b.add("Add", y, x if same else b.conv(x, channels, filters, stride=stride)))
        channels = filters
    y = b.linear(b.add("Flatten", b.add("GlobalAveragePool", x)), 512, 1000)
    return b.content({"x": (np.float32, [1, 3, 224, 224])}, Result(y, 2)), {"x": noise(1, 3, 224, 224)}


@zoo_model("mn04-1s")
def mn04() -> Model:
    """Build this project's smallest tagger, one second of log-mel features."""
    return to_bytes(random_graph("mn04", seed=0)), {"melspec": noise(1, 1, 128, 100)}


@zoo_model("convnext", tolerance=1e-3)
def convnext() -> Model:
    """Build depthwise 7×7 convolutions, layer normalisation and GELU over channels last."""
    b = Builder()
    x = b.add("Conv", "x", b.normal(96, 3, 4, 4), b.normal(96), strides=[4, 4])
    for _ in range(3):
        y = b.add("Transpose", b.conv(x, 96, 96, 7, group=96), perm=[0, 2, 3, 1])
        y = b.linear(b.gelu(b.linear(b.layer_norm(y, 96), 96, 384)), 384, 96)
        x = b.add("Add", x, b.add("Transpose", y, perm=[0, 3, 1, 2]))
    y = b.linear(b.add("Flatten", b.add("GlobalAveragePool", x)), 96, 10)
    return b.content({"x": (np.float32, [1, 3, 128, 128])}, Result(y, 2)), {"x": noise(1, 3, 128, 128)}


@zoo_model("unet", tolerance=1e-3)
def unet() -> Model:
    """Build an encoder and a decoder with transposed convolutions, nearest and linear resizing, skip connections."""
    b = Builder()
    x, channels, skipped = "x", 1, []
    for filters in (16, 32, 64):
        x = b.add("Relu", b.conv(x, channels, filters, 3))
        skipped.append((x, filters))
        x = b.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        channels = filters
    x = b.add("Relu", b.conv(x, channels, 64, 3))
    scales = b.constant(np.array([1, 1, 2, 2], np.float32))
    x = b.add("ConvTranspose", x, b.normal(64, 64, 2, 2), strides=[2, 2], kernel_shape=[2, 2])
    for at, (other, filters) in enumerate(reversed(skipped)):
        x = b.add("Relu", b.conv(b.add("Concat", x, other, axis=1), channels + filters, filters, 3))
        channels = filters
        if at < 2:
            mode: Any = (
                {"mode": "nearest"} if at else {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
            )
            x = b.add("Resize", x, "", scales, **mode)
    y = b.add("Sigmoid", b.conv(x, 16, 1))
    return b.content({"x": (np.float32, [1, 1, 128, 128])}, Result(y, 4)), {"x": noise(1, 1, 128, 128)}


@zoo_model("temporal")
def temporal() -> Model:
    """Build dilated one-dimensional convolutions with gates over a sequence, as in speech models."""
    b = Builder()
    x = b.linear(b.add("Transpose", "x", perm=[0, 2, 1]), 40, 64)
    x = b.add("Transpose", x, perm=[0, 2, 1])
    for layer in range(6):
        wide = 2**layer
        weights = b.constant(b.random.standard_normal((128, 64, 3)).astype(np.float32) / np.float32(14))
        y = b.add("Conv", x, weights, b.normal(128), pads=[wide] * 2, dilations=[wide])
        a = b.add("Split", y, outputs=2, axis=1)
        y = b.add("Mul", b.add("Tanh", a), b.add("Sigmoid", f"{a}_1"))
        weights = b.constant(b.random.standard_normal((64, 64, 1)).astype(np.float32) / np.float32(8))
        x = b.add("Add", x, b.add("Conv", y, weights, b.normal(64)))
    return b.content({"x": (np.float32, [1, 40, "time"])}, Result(x, 3)), {"x": noise(1, 40, 300)}


@zoo_model("attended-kernels")
def attended_kernels() -> Model:
    """Build convolutions whose weights are mixed from four kernels by attention over the channels' means."""
    b = Builder()
    x = b.add("Relu", b.conv("x", 1, 32, 3, stride=2))
    for _ in range(3):
        means = b.add("Flatten", b.add("GlobalAveragePool", x))
        shares = b.add("Softmax", b.linear(b.add("Relu", b.linear(means, 32, 8)), 8, 4), axis=-1)
        kernels = b.add("MatMul", shares, b.constant(b.random.standard_normal((4, 32 * 32)).astype(np.float32) / 6))
        mixed = b.add("Reshape", kernels, b.constant(np.array([32, 32, 1, 1], np.int64)))
        x = b.add("Relu", b.add("Add", x, b.add("Conv", x, mixed)))
    y = b.linear(b.add("Flatten", b.add("GlobalAveragePool", x)), 32, 10)
    return b.content({"x": (np.float32, [1, 1, 128, 100])}, Result(y, 2)), {"x": noise(1, 1, 128, 100)}
