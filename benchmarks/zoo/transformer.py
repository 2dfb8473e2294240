"""Transformers in float32: encoders of text and images, and steps of decoders."""

from __future__ import annotations

import numpy as np

from benchmarks.turns import Array
from benchmarks.zoo import Model, noise, zoo_model
from benchmarks.zoo._builder import Builder, Result


def _words(count: int, length: int) -> Array:
    return np.random.default_rng(2).integers(0, count, (1, length))


def _encoder(b: Builder, layers: int) -> str:
    """Add layers of 384 over embedded words."""
    x = b.layer_norm(b.add("Gather", b.normal(1000, 384), "words"), 384)
    for _ in range(layers):
        x = b.encoder(x, 384, 12, 1536)
    return x


@zoo_model("text-encoder", tolerance=1e-3)
def text_encoder() -> Model:
    """Build six layers of 384, as of an embedder of sentences: 32 words."""
    b = Builder()
    x = _encoder(b, 6)
    y = b.add("ReduceMean", x, axes=[1], keepdims=0)
    return b.content({"words": (np.int64, ["batch", "time"])}, Result(y, 2)), {"words": _words(1000, 32)}


@zoo_model("text-encoder-256", tolerance=1e-3)
def text_encoder_long() -> Model:
    """Build two layers of the same, 256 words."""
    b = Builder()
    x = _encoder(b, 2)
    return b.content({"words": (np.int64, ["batch", "time"])}, Result(x, 3)), {"words": _words(1000, 256)}


@zoo_model("image-encoder", tolerance=1e-3)
def image_encoder() -> Model:
    """Build three layers of 192 over the 197 patches of an image, the first of them learned."""
    b = Builder()
    patches = b.add("Conv", "x", b.normal(192, 3, 16, 16), b.normal(192), strides=[16, 16])
    x = b.add("Reshape", patches, b.constant(np.array([0, 192, -1], np.int64)))
    x = b.add("Concat", b.normal(1, 1, 192), b.add("Transpose", x, perm=[0, 2, 1]), axis=1)
    x = b.add("Add", x, b.normal(1, 197, 192))
    for _ in range(3):
        x = b.encoder(x, 192, 3, 768)
    first = b.add("Gather", b.layer_norm(x, 192), b.constant(np.array(0)), axis=1)
    y = b.linear(first, 192, 1000)
    return b.content({"x": (np.float32, [1, 3, 224, 224])}, Result(y, 2)), {"x": noise(1, 3, 224, 224)}


@zoo_model("decoder-step", tolerance=1e-3)
def decoder_step() -> Model:
    """Build one word through four layers of 256 with caches of 64 words, which the outputs extend by one."""
    b = Builder()
    x = b.add("Gather", b.normal(500, 256), "word")
    inputs: dict[str, tuple[type, list[int | str | None]]] = {"word": (np.int64, [1, 1])}
    feeds = {"word": _words(500, 1)}
    caches = []
    for layer in range(4):
        normed = b.layer_norm(x, 256)
        q, k, v = (b.heads(b.linear(normed, 256, 256), 256, 8) for _ in range(3))
        for kind, new in (("keys", k), ("values", v)):
            name = f"{kind}_{layer}"
            inputs[name] = np.float32, [1, 8, "past", 32]
            feeds[name] = noise(1, 8, 64, 32)
            caches.append(b.add("Concat", name, new, axis=2))
        keys = b.add("Transpose", caches[-2], perm=[0, 1, 3, 2])
        x = b.add("Add", x, b.linear(b.attend(q, keys, caches[-1], 256, 8), 256, 256))
        x = b.add("Add", x, b.linear(b.gelu(b.linear(b.layer_norm(x, 256), 256, 1024)), 1024, 256))
    scores = Result(b.linear(b.layer_norm(x, 256), 256, 500), 3)
    return b.content(inputs, scores, *(Result(cache, 4) for cache in caches)), feeds


@zoo_model("conformer", tolerance=1e-3)
def conformer() -> Model:
    """Build a layer of a speech encoder: attention, a gated depthwise convolution, and two half steps around them."""
    b = Builder()
    x, half = "x", b.constant(np.float32(0.5))
    for _ in range(2):
        y = b.linear(b.layer_norm(x, 144), 144, 576)
        y = b.linear(b.add("Mul", y, b.add("Sigmoid", y)), 576, 144)
        x = b.encoder(b.add("Add", x, b.add("Mul", y, half)), 144, 4, 288)
        y = b.add("Transpose", b.linear(b.layer_norm(x, 144), 144, 288), perm=[0, 2, 1])
        a = b.add("Split", y, outputs=2, axis=1)
        y = b.add("Mul", a, b.add("Sigmoid", f"{a}_1"))
        y = b.add("Conv", y, b.normal(144, 1, 15), b.normal(144), group=144, pads=[7, 7])
        x = b.add("Add", x, b.linear(b.add("Transpose", y, perm=[0, 2, 1]), 144, 144))
    return b.content({"x": (np.float32, [1, "time", 144])}, Result(x, 3)), {"x": noise(1, 100, 144)}


@zoo_model("rotary", tolerance=1e-3)
def rotary() -> Model:
    """Build a layer of 256 with rotary embeddings, a causal mask, RMS normalisation and a gated feed-forward part."""
    b = Builder()
    angles = np.arange(48)[:, None] / 10000 ** (np.arange(16) / 16)
    cosines, sines = (b.constant(np.tile(f(angles), 2).astype(np.float32)) for f in (np.cos, np.sin))
    mask = b.constant(np.triu(np.full((48, 48), -1e9, np.float32), 1))

    def norm(x: str) -> str:
        mean = b.add("ReduceMean", b.add("Mul", x, x), axes=[-1], keepdims=1)
        root = b.add("Sqrt", b.add("Add", mean, b.constant(np.float32(1e-6))))
        return b.add("Mul", b.add("Div", x, root), b.constant(np.ones(256, np.float32)))

    def rotated(x: str) -> str:
        first = b.add("Split", x, outputs=2, axis=-1)
        turned = b.add("Concat", b.add("Neg", f"{first}_1"), first, axis=-1)
        return b.add("Add", b.add("Mul", x, cosines), b.add("Mul", turned, sines))

    x = "x"
    for _ in range(2):
        normed = norm(x)
        q, k, v = (b.heads(b.linear(normed, 256, 256), 256, 8) for _ in range(3))
        scores = b.add("MatMul", rotated(q), b.add("Transpose", rotated(k), perm=[0, 1, 3, 2]))
        scores = b.add("Add", b.add("Mul", scores, b.constant(np.float32(32**-0.5))), mask)
        mixed = b.add("Transpose", b.add("MatMul", b.add("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        y = b.add("Reshape", mixed, b.constant(np.array([0, 0, 256], np.int64)))
        x = b.add("Add", x, b.linear(y, 256, 256))
        normed = norm(x)
        gate = b.linear(normed, 256, 688)
        gate = b.add("Mul", gate, b.add("Sigmoid", gate))
        x = b.add("Add", x, b.linear(b.add("Mul", gate, b.linear(normed, 256, 688)), 688, 256))
    return b.content({"x": (np.float32, [1, 48, 256])}, Result(x, 3)), {"x": noise(1, 48, 256)}
