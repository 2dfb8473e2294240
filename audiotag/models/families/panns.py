"""PANNs (qiuqiangkong/audioset_tagging_cnn): CNNs and MobileNets at 32 and 16 kHz, sigmoid included."""

from __future__ import annotations

from audiotag.features.settings import Logarithm, MelBank, MelConfig, Window
from audiotag.models.description import Description, Length, audioset_labels

LENGTH = Length(min=0.32)
"""Minimum length of input: five poolings reduce 32 frames to one."""

DECIBELS = Logarithm("10", floor=1e-10)


def config(rate: int = 32000, bins: int = 64) -> MelConfig:
    """Return the front end in decibels at 32000 or 16000 Hz."""
    n_fft, fmax = (1024, 14000) if rate == 32000 else (512, 8000)
    return MelConfig(
        rate=rate, preemphasis=None, n_fft=n_fft, window=Window("hann", n_fft, periodic=True), hop=rate // 100,
        mel=MelBank("slaney", bins, 50, fmax, "slaney"), log=DECIBELS, shift=0, scale=0.1,
    )  # fmt: skip


def description(rate: int = 32000, bins: int = 64) -> Description:
    """Return a model of that front end, time before mel."""
    layout = ("batch", 1, "time", "mel")
    labels = audioset_labels()
    return Description("log_mel", rate, layout, "probabilities", labels, config(rate, bins), length=LENGTH)


def descriptions() -> dict[str, Description]:
    """Return PANNs at both rates, and the ConvNeXt that uses 224 bands of the same front end."""
    return {"panns": description(), "panns_16k": description(16000), "convnext": description(bins=224)}
