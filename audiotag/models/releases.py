"""Checkpoints that can be pulled: assets of releases with stable names."""

from __future__ import annotations

from dataclasses import dataclass

RELEASE_URL = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1"
EFFICIENT_SED_URL = "https://github.com/theMoro/EfficientSED/releases/download/v0.0.1"
PANNS_URL = "https://zenodo.org/records/3987831/files"
CED_URL = "https://zenodo.org/records/8275347/files"

MAX_BYTES = 1 << 29
"""Maximum size of a file of unknown size."""


@dataclass(frozen=True)
class ReleaseModel:
    """A checkpoint that its authors have published.

    Attributes:
        name: the name by which it is pulled.
        architecture: its network.
        asset: the file of the release.
        mean_ap: mean average precision on AudioSet, None where another measure is published.
        parameters: number of trainable parameters, None if not known.
        mmac: millions of multiply-accumulates for 10 s, None if not known.
        classes: number of classes.
        url: the release; release v0.0.1 of EfficientAT or EfficientSED, or a record of Zenodo.
        size: bytes of the asset.
        sha256: its hash, None if the file has not been verified by this project, so that it is not pinned.
    """

    name: str
    architecture: str
    asset: str
    mean_ap: float | None = None
    parameters: int | None = None
    mmac: int | None = None
    classes: int = 527
    url: str = RELEASE_URL
    size: int | None = None
    sha256: str | None = None

    @property
    def most_bytes(self) -> int:
        """Maximum size of the asset: that of its parameters as float32, with room for names and statistics."""
        if self.size is not None:
            return self.size
        return MAX_BYTES if self.parameters is None else 5 * self.parameters + (2 << 20)

    @property
    def licence(self) -> str:
        """Licence of the weights; for PANNs and CED as third parties report it."""
        return {PANNS_URL: "CC BY 4.0", CED_URL: "Apache-2.0"}.get(self.url, "MIT")

    @property
    def family(self) -> str:
        """Name of the project that published the model."""
        return {RELEASE_URL: "EfficientAT", EFFICIENT_SED_URL: "EfficientSED", PANNS_URL: "PANNs", CED_URL: "CED"}[
            self.url
        ]


_MN = (
    ReleaseModel("mn01_as", "mn01", "mn01_as_mAP_298.pt", 0.298, 123_783, 18),
    ReleaseModel("mn02_as", "mn02", "mn02_as_mAP_378.pt", 0.378, 324_695, 40),
    ReleaseModel(
        "mn04_as", "mn04", "mn04_as_mAP_432.pt", 0.432, 983_599, 111, size=4_066_513,
        sha256="899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c",
    ),
    ReleaseModel("mn05_as", "mn05", "mn05_as_mAP_443.pt", 0.443, 1_431_239, 160),
    ReleaseModel(
        "mn10_as", "mn10", "mn10_as_mAP_471.pt", 0.471, 4_876_831, 541, size=19_708_753,
        sha256="0bd7dc2443af498c289a2e739f02ebb515d6aa3fd3ab9db539c86123ae368a4e",
    ),
    ReleaseModel("mn20_as", "mn20", "mn20_as_mAP_478.pt", 0.478, 17_909_287, 2059),
    ReleaseModel("mn30_as", "mn30", "mn30_as_mAP_482.pt", 0.482, 39_086_367, 4555),
    ReleaseModel("mn40_as", "mn40", "mn40_as_mAP_484.pt", 0.484, 68_427_303, 8028),
    ReleaseModel("mn40_as_ext", "mn40", "mn40_as_ext_mAP_487.pt", 0.487, 68_427_303, 8028),
)  # fmt: skip

_VARIANTS = (
    ReleaseModel("mn10_as_hop_5", "mn10", "mn10_as_hop_5_mAP_475.pt", 0.475, 4_876_831, 1080),
    ReleaseModel("mn10_as_hop_15", "mn10", "mn10_as_hop_15_mAP_463.pt", 0.463, 4_876_831, 360),
    ReleaseModel("mn10_as_hop_20", "mn10", "mn10_as_hop_20_mAP_456.pt", 0.456, 4_876_831, 270),
    ReleaseModel("mn10_as_hop_25", "mn10", "mn10_as_hop_25_mAP_447.pt", 0.447, 4_876_831, 220),
    ReleaseModel("mn10_as_mels_40", "mn10", "mn10_as_mels_40_mAP_453.pt", 0.453, 4_876_831, 210),
    ReleaseModel("mn10_as_mels_64", "mn10", "mn10_as_mels_64_mAP_461.pt", 0.461, 4_876_831, 270),
    ReleaseModel("mn10_as_mels_256", "mn10", "mn10_as_mels_256_mAP_474.pt", 0.474, 4_876_831, 1080),
)

_DYNAMIC = (
    ReleaseModel("dymn04_as", "dymn04", "dymn04_as.pt", 0.450, 1_961_239, 120),
    ReleaseModel("dymn10_as", "dymn10", "dymn10_as.pt", 0.477, None, 580),
    ReleaseModel("dymn20_as", "dymn20", "dymn20_as_mAP_493.pt", 0.493, None, 2200),
)

_FRAME_WISE = tuple(
    ReleaseModel(name, name, f"{name}_strong.pt", None, parameters, mmac, classes=447, url=EFFICIENT_SED_URL)
    for name, parameters, mmac in (
        ("fmn04", None, None), ("fmn06", 1_615_022, 440), ("fmn10", 3_830_798, 1050), ("fmn20", None, None),
        ("fmn30", None, None),
    )
)  # fmt: skip

_PANNS = tuple(
    ReleaseModel(f"panns_{name}", architecture, f"{asset}_mAP={mean_ap:.3f}.pth", mean_ap, count, mmac, url=PANNS_URL)
    for name, architecture, asset, mean_ap, count, mmac in (
        ("mobilenetv1", "MobileNetV1", "MobileNetV1", 0.389, 4_796_303, 740),
        ("mobilenetv2", "MobileNetV2", "MobileNetV2", 0.383, 4_075_343, 342),
        ("cnn14", "Cnn14", "Cnn14", 0.431, 80_753_615, 20_000),
        ("cnn14_16k", "Cnn14", "Cnn14_16k", 0.438, 80_753_615, 20_000),
        ("cnn14_frames", "Cnn14_DecisionLevelMax", "Cnn14_DecisionLevelMax", 0.385, 80_753_615, 20_200),
    )
)

_CED = tuple(
    ReleaseModel(
        f"ced_{size}",
        f"ced_{size}",
        f"audiotransformer_{size}_mAP_{mean_ap}.pt",
        mean_ap / 1e4,
        count,
        mmac,
        url=CED_URL,
    )
    for size, mean_ap, count, mmac in (
        ("tiny", 4814, 5_503_183, 1610),
        ("mini", 4896, 9_696_655, 2730),
        ("small", 4958, 21_622_543, 5860),
        ("base", 4999, 85_711_759, 22_200),
    )
)

MODELS = {model.name: model for model in (*_MN, *_VARIANTS, *_DYNAMIC, *_FRAME_WISE, *_PANNS, *_CED)}
"""Models that can be pulled."""
