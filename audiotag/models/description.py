"""The description of a model's input and output: the JSON value under the key `audiotag` of its metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from audiotag.features import mel
from audiotag.features.mel import LogMelStream
from audiotag.features.records import from_json, to_json
from audiotag.features.samples import SampleStream
from audiotag.features.settings import MelBank, MelConfig
from audiotag.labels import LabelSet, audioset

if TYPE_CHECKING:
    from tinyonnx.ir import Array

KEY = "audiotag"
"""The key in the metadata of an ONNX file."""

MIN_RATE, MAX_RATE = 1_000, 1_000_000
MAX_SECONDS = 1200.0


@dataclass(frozen=True)
class ClassLabel:
    """Name of a class, and its id, which may be empty."""

    name: str
    id: str = ""


@dataclass(frozen=True)
class Frames:
    """Frame-wise scores, `rate` per second; events use their median over `median` frames, an odd number."""

    rate: float
    median: int | None = None

    def __post_init__(self) -> None:
        """Check the values. Raises ValueError."""
        if not self.rate > 0:
            raise ValueError(f"rate must be positive, not {self.rate:g}")
        if self.median is not None and (self.median < 1 or self.median % 2 == 0):
            raise ValueError(f"median must be an odd number of frames, not {self.median}")


@dataclass(frozen=True)
class Length:
    """Lengths of sound in seconds that a model takes; None where there is no bound."""

    min: float | None = None
    max: float | None = None
    fixed: float | None = None

    def __post_init__(self) -> None:
        """Check the values. Raises ValueError."""
        for name, seconds in (("min", self.min), ("max", self.max), ("fixed", self.fixed)):
            if seconds is not None and not 0 < seconds <= MAX_SECONDS:
                raise ValueError(f"{name} must be in 0..{MAX_SECONDS:g} s, not {seconds:g}")
        if self.fixed is not None and (self.min is not None or self.max is not None):
            raise ValueError("fixed can't be combined with min and max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is more than max {self.max:g}")

    @property
    def shortest(self) -> float:
        """Seconds to which a shorter sound is padded with zeros."""
        return self.fixed or self.min or 0.0

    @property
    def longest(self) -> float | None:
        """Seconds of the pieces into which a longer sound is cut."""
        return self.fixed or self.max


_ANY_LENGTH = Length()


@dataclass(frozen=True)
class OutputNames:
    """Names of outputs, where they can't be found by their shapes."""

    scores: str | None = None
    frames: str | None = None
    embedding: str | None = None


@dataclass(frozen=True)
class Description:
    """The input and the output of a model.

    Args:
        input: log-mel features, or the waveform itself.
        rate: sample rate in Hz.
        layout: axes of the input: "batch", "mel" and "time" or "samples", and 1.
        output: whether the scores are logits or probabilities.
        labels: the classes in the order of the output.
        features: the front end of a log-mel model.
        frames: frame-wise scores, if the model has any.
        length: lengths of sound that it takes.
        outputs: names of its outputs.

    Raises:
        ValueError: two of these contradict each other.
    """

    input: Literal["log_mel", "waveform"]
    rate: int
    layout: tuple[Any, ...]
    output: Literal["logits", "probabilities"]
    labels: tuple[ClassLabel, ...]
    features: MelConfig | None = None
    frames: Frames | None = None
    length: Length | None = None
    outputs: OutputNames | None = None

    def __post_init__(self) -> None:
        """Check the values. Raises ValueError."""
        if not MIN_RATE <= self.rate <= MAX_RATE:
            raise ValueError(f"rate {self.rate} Hz is not in {MIN_RATE}..{MAX_RATE} Hz")
        if (self.features is None) != (self.input == "waveform"):
            raise ValueError("features are needed for input log_mel, and only for that")
        if self.features is not None and self.features.rate != self.rate:
            raise ValueError(f"features of {self.features.rate} Hz contradict rate {self.rate} Hz")
        axes = ("mel", "time") if self.input == "log_mel" else ("samples",)
        named = [axis for axis in self.layout if axis != 1]
        if sorted(map(str, named)) not in (sorted(axes), sorted(("batch", *axes))) or named[1:].count("batch"):
            raise ValueError(
                f"layout {list(self.layout)} must have the axes {', '.join(axes)}, before them batch, and else only 1"
            )
        _ = self.label_set

    @cached_property
    def label_set(self) -> LabelSet:
        """The classes."""
        return LabelSet((label.name, label.id) for label in self.labels)

    @property
    def lengths(self) -> Length:
        """The lengths of sound that the model takes."""
        return self.length or _ANY_LENGTH

    def stream(self) -> LogMelStream | SampleStream:
        """Make the front end of a clip that arrives in blocks: (rows, columns) float32; see `finished`."""
        return SampleStream() if self.features is None else LogMelStream(self.features)

    def finished(self, rows: Array) -> Array:
        """Complete the joined blocks of a clip's front end, for which the whole clip is needed."""
        return rows if self.features is None else mel.limit(rows, self.features)

    def hear(self, samples: Array) -> Array:
        """Compute the front end of (n,) samples: features (mels, frames), or (1, n); short ones padded with zeros."""
        missing = self.missing(len(samples))
        if missing:
            samples = np.concatenate([samples, np.zeros(missing, np.float32)])
        if self.features is None:
            return np.array(samples, np.float32)[None]
        return mel.log_mel(samples, self.features)

    @property
    def shown(self) -> MelConfig:
        """The features to show of a sound: those of the model, or of a model of waveforms, EfficientAT's."""
        return self.features or replace(mel.DEFAULT, rate=self.rate, mel=MelBank(fmax=min(15000.0, self.rate / 2)))

    def spectrogram(self, samples: Array) -> Array:
        """Return the features (mels, frames) of samples at the model's rate, for a picture."""
        return mel.log_mel(samples, self.shown)

    def missing(self, n_samples: int) -> int:
        """Return the number of zeros that a clip of `n_samples` samples lacks to the shortest length."""
        return max(0, round(self.lengths.shortest * self.rate) - n_samples)

    def arranged(self, rows: Array) -> Array:
        """Arrange the front end of a batch of clips, (batch, rows, columns), in the layout of the model's input."""
        axes = {"batch": 0, "mel": 1, "time": 2, "samples": 2}
        named = [axes[axis] for axis in self.layout if axis != 1]
        left_out = tuple(axis for axis in range(3) if axis not in named)
        arranged = np.transpose(rows, (*named, *left_out))
        shape = iter(arranged.shape)
        result: Array = arranged.reshape([1 if axis == 1 else next(shape) for axis in self.layout])
        return result

    def to_text(self) -> str:
        """Return the JSON text for the metadata."""
        value = to_json(self)
        if value["features"] is not None:
            del value["features"]["rate"]
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def parse(text: str) -> Description:
    """Parse the JSON of a description.

    Raises:
        ValueError: it is not JSON, has unknown or missing keys, or contradicts itself.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the description is not JSON: {error}") from None
    return from_value(value)


def from_value(value: Any) -> Description:
    """Make a description from parsed JSON. Raises ValueError."""
    if isinstance(value, dict) and isinstance(value.get("features"), dict):
        features = {"rate": value.get("rate"), **value["features"]}
        value = {**value, "features": features}
    return from_json(Description, value, "description")


def audioset_labels() -> tuple[ClassLabel, ...]:
    """Return the classes of AudioSet for a description."""
    return tuple(ClassLabel(label.name, label.mid) for label in audioset())


def efficientat(config: MelConfig = mel.DEFAULT, labels: tuple[ClassLabel, ...] | None = None) -> Description:
    """Return the description of EfficientAT's models, which a model without one is taken for."""
    return Description(
        "log_mel", config.rate, ("batch", 1, "mel", "time"), "logits",
        audioset_labels() if labels is None else labels, config,
    )  # fmt: skip
