"""Recurrent models: stacks of layers, text recognition, diacritics."""

from __future__ import annotations

import numpy as np

from benchmarks.turns import Array
from benchmarks.zoo import Model, noise, zoo_model
from benchmarks.zoo._builder import Builder, Result


def _stack(op: str, hidden: int, layers: int, x: Array, *, both: bool = False, **attributes: int) -> Model:
    builder = Builder()
    value, features = "x", x.shape[2]
    for _ in range(layers):
        value = builder.recurrent(op, value, features, hidden, both=both, **attributes)
        features = 2 * hidden if both else hidden
    return builder.content({"x": (np.float32, ["time", "batch", x.shape[2]])}, Result(value, 3)), {"x": x}


@zoo_model("lstm-128x3")
def lstm_128() -> Model:
    """Build three layers of 128, 100 steps of one sequence."""
    return _stack("LSTM", 128, 3, noise(100, 1, 64))


@zoo_model("lstm-256x3")
def lstm_256() -> Model:
    """Build three layers of 256, 100 steps of one sequence."""
    return _stack("LSTM", 256, 3, noise(100, 1, 64))


@zoo_model("lstm-256x3-batch-8")
def lstm_batch() -> Model:
    """Build three layers of 256, 100 steps of eight sequences."""
    return _stack("LSTM", 256, 3, noise(100, 8, 64))


@zoo_model("rnn-200")
def rnn() -> Model:
    """Build one plain layer, 100 steps of one sequence."""
    return _stack("RNN", 200, 1, noise(100, 1, 64))


@zoo_model("lstm-step")
def lstm_step() -> Model:
    """Build an LSTM that is called for one step of one sequence at a time."""
    return _stack("LSTM", 128, 1, noise(1, 1, 128))


@zoo_model("crnn")
def crnn() -> Model:
    """Build a text recogniser: convolutions over an image of a line, two bidirectional GRUs over its columns."""
    builder, value, channels = Builder(), "image", 1
    for filters in (32, 64, 128):
        value = builder.add("Conv", value, builder.normal(filters, channels, 3, 3), pads=[1, 1, 1, 1])
        value = builder.add("Relu", value)
        value = builder.add("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
        channels = filters
    columns = builder.add("Transpose", value, perm=[3, 0, 1, 2])
    value = builder.add("Reshape", columns, builder.constant(np.array([0, 0, -1], np.int64)))
    features = channels * 4
    for _ in range(2):
        value = builder.recurrent("GRU", value, features, 128, both=True, linear_before_reset=1)
        features = 256
    value = builder.add("MatMul", value, builder.normal(features, 97))
    content = builder.content({"image": (np.float32, ["batch", 1, 32, "width"])}, Result(value, 3))
    return content, {"image": noise(1, 1, 32, 400)}


@zoo_model("diacritics")
def diacritics() -> Model:
    """Build a model that adds diacritics to a text of 80 letters: an embedding and two bidirectional LSTMs."""
    builder = Builder()
    value = builder.add("Gather", builder.normal(64, 128), "letters")
    features = 128
    for _ in range(2):
        value = builder.recurrent("LSTM", value, features, 200, both=True)
        features = 400
    value = builder.add("Softmax", builder.add("MatMul", value, builder.normal(features, 16)), axis=-1)
    letters = np.random.default_rng(2).integers(0, 64, (80, 1))
    return builder.content({"letters": (np.int64, ["time", "batch"])}, Result(value, 3)), {"letters": letters}
