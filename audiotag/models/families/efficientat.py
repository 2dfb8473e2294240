"""EfficientAT (fschmid56/EfficientAT): `mn` and `dymn`, with any hop and number of mel bands."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from audiotag.errors import ModelError
from audiotag.features import mel
from audiotag.features.settings import MelConfig
from audiotag.models.description import Description, efficientat

HOPS = (5, 15, 20, 25)
"""Hops of the published variants in milliseconds, beside 10."""

MELS = (40, 64, 256)
"""Numbers of mel bands of the published variants, beside 128."""

_RATE = mel.DEFAULT.rate


@dataclass(frozen=True)
class CheckpointVariant:
    """Properties that the tensors of a checkpoint do not show: hop in milliseconds, number of mel bands, strides."""

    hop: float = 10
    bins: int = 128
    strides: tuple[int, ...] = (2, 2, 2, 2)

    @property
    def config(self) -> MelConfig:
        return config(round(self.hop * _RATE / 1000), self.bins)


def variant(name: str, hop: float | None = None, bins: int | None = None) -> CheckpointVariant:
    """Return the variant in a file name such as `mn10_as_hop_20_mAP_456.pt`; `hop` and `bins` if it names none."""
    found = {key: re.search(rf"{key}[_-]?(\d+)", name) for key in ("hop", "mels")}
    for key, given in (("hop", hop), ("mels", bins)):
        match = found[key]
        if match and given is not None and given != int(match[1]):
            raise ModelError(
                f"its name says {key} {match[1]}, not {given:g}; rename the file if --{key} {given:g} is right"
            )
    strides = re.search(r"_s([12]{4})(?!\d)", name)
    return CheckpointVariant(
        hop or (int(found["hop"][1]) if found["hop"] else 10),
        bins or (int(found["mels"][1]) if found["mels"] else 128),
        tuple(int(digit) for digit in strides[1]) if strides else (2, 2, 2, 2),
    )


def config(hop: int = 320, bins: int = 128) -> MelConfig:
    """Return the front end of a variant, `hop` in samples."""
    return replace(mel.DEFAULT, hop=hop, mel=replace(mel.DEFAULT.mel, bins=bins))


def descriptions() -> dict[str, Description]:
    """Return EfficientAT's models: `efficientat_hop_20` has a frame every 20 ms, `efficientat_mels_64` has 64 bands."""
    hops = {f"efficientat_hop_{hop}": efficientat(CheckpointVariant(hop).config) for hop in HOPS}
    mels = {f"efficientat_mels_{bins}": efficientat(config(bins=bins)) for bins in MELS}
    return {"efficientat": efficientat(), **hops, **mels}
