"""Models that take the waveform itself; their classes are given by `--labels`."""

from __future__ import annotations

from audiotag.models.description import Description, Frames, Length, audioset_labels

_LAYOUT = ("batch", "samples")


def descriptions() -> dict[str, Description]:
    """Return `waveform_16k`, for any length, and descriptions of known models with their rates, lengths and outputs."""
    labels = audioset_labels()
    return {
        "waveform_16k": Description("waveform", 16000, _LAYOUT, "probabilities", labels),
        "waveform_32k": Description("waveform", 32000, _LAYOUT, "probabilities", labels),
        "yamnet": Description(
            "waveform", 16000, ("samples",), "probabilities", labels, frames=Frames(1 / 0.48), length=Length(min=0.975)
        ),
        "perch": Description("waveform", 32000, _LAYOUT, "logits", labels, length=Length(fixed=5)),
        "birdnet": Description("waveform", 48000, _LAYOUT, "logits", labels, length=Length(fixed=3)),
    }
