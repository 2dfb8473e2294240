"""EfficientSED (theMoro/EfficientSED): frame-wise `fmn` with the 447 classes of AudioSet strong."""

from __future__ import annotations

from pathlib import Path

from audiotag.features.settings import Logarithm, MelBank, MelConfig, Window
from audiotag.models.description import ClassLabel, Description, Frames, OutputNames

CONFIG = MelConfig(
    rate=16000, n_fft=512, window=Window("hann", 400), hop=160, mel=MelBank("kaldi", 128, 0, 7000),
    log=Logarithm("e", floor=1e-7),
)  # fmt: skip

FRAMES = Frames(25, median=9)
"""A score every 40 ms, filtered as upstream does."""


def labels() -> tuple[ClassLabel, ...]:
    """Return the 447 classes in the order of the model output."""
    table = Path(__file__).parents[2] / "data" / "audioset_strong_labels.tsv"
    rows = (line.split("\t") for line in table.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return tuple(ClassLabel(name, mid) for _, mid, name in rows)


def descriptions() -> dict[str, Description]:
    """Return the frame-wise models; a clip's scores are `weak_logits`."""
    outputs = OutputNames("weak_logits", "strong_logits", "frame_embedding")
    layout = ("batch", 1, "mel", "time")
    return {"efficientsed": Description("log_mel", 16000, layout, "logits", labels(), CONFIG, FRAMES, None, outputs)}
