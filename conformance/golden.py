"""PyTorch's results for a model: a file of arrays named `<clip>:<quantity>`.

Quantities: `melspec` (128 × frames), `logits`, `embedding` and, for some clips, `features.0` to `features.<n>`, the
output of every block; all float32, without batch axis. Clips are named after their recordings: `dog_bark/1-30344-A` is
`dog_bark/1-30344-A.ogg`.
"""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiotag.features import mel
from audiotag.sound import audio
from conformance import pick_logits
from onnx_conformance import ConformanceError
from tinyonnx import InferenceSession, Node
from tinyonnx.ir import Array
from tinyonnx.tools.compare import difference

TOLERANCE = 1e-4
"""Maximum error: absolute for logits and log-mel features, relative to the scale for feature maps and embeddings."""


@dataclass(frozen=True)
class Clip:
    """PyTorch's results for one recording."""

    name: str
    melspec: Array
    logits: Array
    embedding: Array
    features: list[Array]


@dataclass(frozen=True)
class Check:
    """An error compared with its limit; `error` is infinite if there was nothing to compare."""

    what: str
    error: float
    detail: str

    @property
    def ok(self) -> bool:
        """Whether the error is within `TOLERANCE`."""
        return self.error <= TOLERANCE

    def __str__(self) -> str:
        return f"{'ok' if self.ok else 'FAILED':8}{self.what:14}{self.error:.1e}  {self.detail}"


def read_clips(path: Path) -> list[Clip]:
    """Return the clips of a golden file, those with feature maps first.

    Raises ConformanceError if it is not such a file, OSError if it can't be read.
    """
    quantities: dict[str, dict[str, Array]] = defaultdict(dict)
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            for key in arrays:
                clip, colon, quantity = key.rpartition(":")
                if colon:
                    quantities[clip][quantity] = arrays[key]
        clips = [_clip(name, values) for name, values in quantities.items()]
    except KeyError as error:
        raise ConformanceError(f"{path}: a clip lacks {error}") from error
    except (ValueError, AttributeError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ConformanceError(f"{path}: not a .npz file of golden numbers") from error
    if not clips:
        raise ConformanceError(f"{path}: no clips in it")
    return sorted(clips, key=lambda clip: not clip.features)


def _clip(name: str, values: dict[str, Array]) -> Clip:
    count = sum(quantity.startswith("features.") for quantity in values)
    features = [values[f"features.{i}"] for i in range(count)]
    return Clip(name, values["melspec"], values["logits"], values["embedding"], features)


def feeds(session: InferenceSession, clip: Clip) -> dict[str, Array]:
    """Return a clip as the model's input, 1 × 1 × 128 × frames.

    Raises ConformanceError if the model has more than one input.
    """
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise ConformanceError(f"golden clips need a model with one input, this one has {len(inputs)}")
    return {inputs[0].name: clip.melspec[None, None]}


def check_model(session: InferenceSession, clips: Sequence[Clip]) -> Iterator[Check]:
    """Check logits and embeddings of all clips, and every feature map of those that have them."""
    logits: list[tuple[float, str]] = []
    embeddings: list[tuple[float, str]] = []
    for clip in clips:
        run = Run(session, clip)
        logits.append((run.logits_error(), clip.name))
        *maps, embedding = run.find([*clip.features, clip.embedding])
        embeddings.append((embedding.error, f"{embedding.name}, {clip.name}"))
        for index, found in enumerate(maps):
            yield Check(f"features.{index}", found.error, f"{found.name}, {clip.name}")
    yield _greatest("logits", logits)
    yield _greatest("embedding", embeddings)


def _greatest(what: str, errors: list[tuple[float, str]]) -> Check:
    error, detail = max(errors)
    return Check(what, error, f"worst of {len(errors)} clips: {detail}")


@dataclass(frozen=True)
class Found:
    """The tensor nearest to a golden array; `error` is relative to that array's scale."""

    position: int
    name: str
    error: float


class Run:
    """One run of a model on a clip, with every tensor of its plan.

    For a clip with feature maps, a second run gives the tensors of the file that fused steps do not have.
    """

    def __init__(self, session: InferenceSession, clip: Clip) -> None:
        self.clip = clip
        made: dict[str, Any] = {}

        def keep(node: Node, outputs: list[Any]) -> None:
            pairs = zip(node.outputs, outputs)
            made.update((v.name, r.copy()) for v, r in pairs if v is not None and isinstance(r, np.ndarray))

        inputs = feeds(session, clip)
        self.results = session.run_with_hook(inputs, keep)
        self.output_names = [arg.name for arg in session.get_outputs()]
        names = [value.name for node in session.graph.nodes for value in node.outputs if value is not None]
        gone = [name for name in names if name not in made] if clip.features else []
        if gone:
            made |= zip(gone, session.run(gone, inputs), strict=True)
        kept = [(name, made[name]) for name in names if name in made]
        self.tensors = [(name, t) for name, t in kept if isinstance(t, np.ndarray) and t.dtype.kind == "f"]

    def logits_error(self) -> float:
        """Return the greatest absolute error of the logits."""
        return difference(pick_logits(self.output_names, self.results), self.clip.logits)[0]

    def find(self, wanted: Sequence[Array]) -> list[Found]:
        """Return for each array, in order, the nearest tensor of its shape that runs after the previous one's.

        Exporters name tensors differently, so that the output of a block is identified by shape, position and values; a
        wrong tensor is very unlikely to be nearest. Axes of size 1 are ignored.
        """
        found: list[Found] = []
        after = -1
        for array in wanted:
            target = array.squeeze()
            candidates = [
                Found(position, name, difference(tensor.squeeze(), target)[1])
                for position, (name, tensor) in enumerate(self.tensors)
                if position > after and tensor.squeeze().shape == target.shape
            ]
            best = min(candidates, key=lambda c: c.error, default=Found(after, f"no tensor of {array.shape}", np.inf))
            after = best.position
            found.append(best)
        return found


def check_features(clips: Sequence[Clip], folder: Path) -> Check:
    """Compare our log-mel of the recordings in `folder` with PyTorch's.

    Raises ConformanceError if a recording is missing.
    """
    errors = []
    for clip in clips:
        path = folder / f"{clip.name}.ogg"
        if not path.is_file():
            raise ConformanceError(f"{path}: no such recording")
        ours = mel.log_mel(audio.read(path))
        errors.append((difference(ours, clip.melspec)[0] if ours.shape == clip.melspec.shape else np.inf, clip.name))
    return _greatest("melspec", errors)
