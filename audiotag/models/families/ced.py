"""CED (RicherMans/CED): transformers at 16 kHz on pieces of at most 10.11 s, sigmoid included."""

from __future__ import annotations

from audiotag.features.settings import Logarithm, MelBank, MelConfig, Window
from audiotag.models.description import Description, Length, audioset_labels

CONFIG = MelConfig(
    rate=16000, preemphasis=None, n_fft=512, window=Window("hann", 512, periodic=True), hop=160,
    mel=MelBank("htk", 64, 0, 8000), log=Logarithm("10", floor=1e-10, top_db=120), shift=0, scale=0.1,
)  # fmt: skip

LENGTH = Length(min=0.16, max=10.11)
"""Lengths of input: from 16 to 1012 frames."""


def descriptions() -> dict[str, Description]:
    """Return models with features in decibels, (batch, 64, time)."""
    layout = ("batch", "mel", "time")
    labels = audioset_labels()
    return {"ced": Description("log_mel", 16000, layout, "probabilities", labels, CONFIG, length=LENGTH)}
