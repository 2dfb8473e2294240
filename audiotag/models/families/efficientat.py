"""EfficientAT (fschmid56/EfficientAT): `mn` and `dymn`, with any hop and number of mel bands."""

from __future__ import annotations

from dataclasses import replace

from audiotag.features import mel
from audiotag.features.settings import MelConfig
from audiotag.models.description import Description, efficientat

HOPS = {"": 320, "_hop_5": 160, "_hop_15": 480, "_hop_20": 640, "_hop_25": 800}
"""Hops of the published variants in samples by the part of their name, which is in milliseconds."""

MELS = (40, 64, 256)
"""Numbers of mel bands of the published variants, beside 128."""


def config(hop: int = 320, bins: int = 128) -> MelConfig:
    """The front end of a variant."""
    return replace(mel.DEFAULT, hop=hop, mel=replace(mel.DEFAULT.mel, bins=bins))


def descriptions() -> dict[str, Description]:
    """EfficientAT's models: `efficientat_hop_20` has a frame every 20 ms, `efficientat_mels_64` has 64 bands."""
    hops = {f"efficientat{name}": efficientat(config(hop)) for name, hop in HOPS.items()}
    return hops | {f"efficientat_mels_{bins}": efficientat(config(bins=bins)) for bins in MELS}
