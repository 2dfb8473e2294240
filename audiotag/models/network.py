"""An ONNX model that has been checked to be the tagger that its description declares."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import tinyonnx
from audiotag.errors import ModelError, printable
from audiotag.features import mel
from audiotag.models.description import KEY, Description, efficientat, parse
from tinyonnx.codegen import code_cache
from tinyonnx.codegen.kernel import DISABLED

if TYPE_CHECKING:
    from audiotag.features.settings import MelConfig
    from tinyonnx.codegen.kernel import Kernel
    from tinyonnx.ir import Array, Node


_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}

_POOLS = ("GlobalAveragePool", "AveragePool", "ReduceMean")

_PROBE = 2.0
"""Seconds of silence with which the rate of frame-wise scores is checked."""

_ORDINARY = 10.0
"""Seconds of a clip of ordinary length, that of AudioSet's."""

_NO_DESCRIPTION = "; it has no description: add one with `audiotag models describe`"


class Outcome(NamedTuple):
    """The output of a model for a piece of sound.

    `scores` are (classes,) float64 probabilities, `frames` (frames, classes) those of each frame or None, `embedding`
    (n,) float32 or None.
    """

    scores: Array
    frames: Array | None = None
    embedding: Array | None = None


class Network:
    """A loaded model that maps log-mel features or samples to scores of its classes.

    A model without a description in its metadata is taken for one of EfficientAT's, with the classes of AudioSet.

    Args:
        source: an ONNX file, or its content.
        name: name of the model in error messages.
        threads: number of threads of a run, at most one per processor.
        precision: type of the operands of large products, see `tinyonnx.SessionOptions`.
        probe: whether to check the described rate of frame-wise scores by running the model.

    Attributes:
        description: of its input, outputs and classes.
        sha256: SHA-256 of the file in hexadecimal; None if the content was given.
        precision: the type in use, float32 if the processor lacks bfloat16.

    Raises:
        ModelError: the model can't be loaded, its description is wrong, or its input or outputs contradict it.
    """

    def __init__(
        self, source: str | bytes, name: str, threads: int = 1, precision: str = "float32", *, probe: bool = True
    ) -> None:
        self.name = name
        self._prepared = False
        try:
            options = tinyonnx.SessionOptions()
            options.intra_op_num_threads = threads
            options.precision = precision
            self.session = tinyonnx.InferenceSession(source, options)
        except (tinyonnx.Error, OSError) as error:
            raise self._error(str(error)) from None
        self.sha256 = self.session.sha256
        self.precision = self.session.precision
        text = self.session.get_modelmeta().custom_metadata_map.get(KEY)
        self._described = text is not None
        try:
            self.description: Description = efficientat() if text is None else parse(text)
        except ValueError as error:
            raise self._error(f"metadata {KEY!r}: {error}; write it anew with `audiotag models describe`") from None
        self.classes = len(self.description.labels)
        self._input = self._checked_input()
        self._dtype = _FLOATS[self._input.type]
        self._frames = self._find_frames()
        self._output = self._find_scores()
        if probe:
            self._check_frame_rate()

    def prepare(self, samples: int) -> None:
        """Load the machine code of the front end; without it, compile it and the kernels of the model together.

        Does nothing after the first call.
        """
        features = self.description.features
        if self._prepared or features is None or DISABLED:
            return
        self._prepared = True
        kernel, kinds = mel.kernel_of(features)
        with code_cache.expecting(lambda: self.kernels(features, samples)):
            kernel.address(kinds)

    def kernels(self, features: MelConfig, samples: int) -> list[tuple[Kernel, str]]:
        """Return the kernels, with their argument kinds, for a clip of this many samples and an ordinary one."""
        found = [mel.kernel_of(features)]
        lengths, rate = self.description.lengths, self.description.rate
        for seconds in (samples / rate, _ORDINARY):
            longest = min(max(seconds, lengths.shortest), lengths.longest or seconds)
            frames = self.frames or features.n_frames(round(longest * rate))
            with suppress(tinyonnx.Error, ModelError):  # the run raises it
                rows = np.zeros((1, features.n_mels, frames), np.float32)
                found += self.session.kernels_for([self._output], self.feeds(rows))
        return found

    # -- running ------------------------------------------------------------------------

    def __call__(self, rows: Array) -> Array:
        """Compute the scores (batch, classes) float32 from the front end's output, in the form that the model has them.

        `rows` is (batch, mels, time) float32, or (batch, 1, samples). Raises ModelError.
        """
        return self._scores(self._run([self._output], rows)[0], len(rows))

    def answer(self, rows: Array, *, frames: bool = False, embedding: bool = False) -> Outcome:
        """Compute the probabilities of a clip from the front end's output `rows`, (mels, time) or (1, samples).

        Raises ModelError.
        """
        names = [self._output]
        names += [self._frames_output] if frames else []
        names += [self.embedding] if embedding else []
        results = iter(self._run(names, rows[None]))
        scores = self.probabilities(self._scores(next(results), 1)[0])
        framewise = self.probabilities(self._framewise(next(results))) if frames else None
        return Outcome(scores, framewise, self._embeddings(next(results), 1)[0] if embedding else None)

    def probabilities(self, scores: Array) -> Array:
        """Convert the model's scores of any shape to probabilities, float64."""
        if self.description.output == "logits":
            return sigmoid(scores)
        return scores.astype(np.float64)

    def _run(self, outputs: list[str], rows: Array) -> list[Array]:
        try:
            return self.session.run(outputs, self.feeds(rows))
        except tinyonnx.Error as error:
            raise self._error(str(error)) from None

    def _scores(self, scores: Array, batch: int) -> Array:
        if self._output == self._frames:  # the model has no scores for whole clips
            result: Array = self._framewise(scores).max(axis=0)[None]
        else:
            # some exports drop the batch axis, or make it the second one
            if np.size(scores) != batch * self.classes:
                raise self._error(
                    f"output {self._output!r} has shape {np.shape(scores)}, not ({batch}, {self.classes})"
                )
            result = np.reshape(scores, (batch, self.classes)).astype(np.float32, copy=False)
        if not np.isfinite(result).all():
            raise self._error("gives NaN or infinite scores")
        if self.description.output == "probabilities" and not ((result >= -1e-4) & (result <= 1 + 1e-4)).all():
            raise self._error("gives scores outside 0..1: its description must say output logits, not probabilities")
        return result.clip(0, 1) if self.description.output == "probabilities" else result

    def _framewise(self, scores: Array) -> Array:
        """Return the frame-wise scores of one clip as (frames, classes)."""
        framewise: Array = scores if np.ndim(scores) == 2 else scores[0] if len(scores) == 1 else np.empty((0, 0))
        if self.classes not in framewise.shape:
            shape = np.shape(scores)
            raise self._error(f"output {self._frames!r} has shape {shape}, which are not scores of frames of one clip")
        return framewise if self._classes_come_last(framewise.shape) else framewise.T

    def _classes_come_last(self, shape: Any) -> bool:
        """Return whether the classes are the last axis of frame-wise scores.

        The model's declaration decides if both could be.
        """
        declared = next(list(o.shape or shape) for o in self.session.get_outputs() if o.name == self._frames)
        fixed = [size == self.classes for size in declared[-2:]]
        return bool(fixed[1] or (not fixed[0] and shape[1] == self.classes))

    def _embeddings(self, embedding: Array, batch: int) -> Array:
        if np.ndim(embedding) == 3 and self.description.frames is not None and self.embedding in self._names():
            embedding = embedding.mean(axis=1)
        if np.size(embedding) % batch:
            raise self._error(
                f"tensor {self.embedding!r} has shape {np.shape(embedding)}, which is not an embedding of {batch} clips"
            )
        return np.reshape(embedding, (batch, -1)).astype(np.float32, copy=False)

    def feeds(self, rows: Array) -> dict[str, Array]:
        """Make the session's inputs for the front end of a batch, (batch, mels, time) or (batch, 1, samples) float32.

        Raises ModelError if the model has another fixed number of clips, frames or samples.
        """
        given = {
            "batch": (len(rows), "clips"),
            "time": (rows.shape[2], "frames"),
            "samples": (rows.shape[2], "samples"),
        }
        for axis, fixed in zip(self.description.layout, self._input.shape, strict=True):
            count, unit = given.get(axis, (fixed, ""))
            if isinstance(fixed, int) and fixed != count:
                raise self._error(f"takes exactly {fixed} {unit}{self._in_seconds(fixed, axis)}, not {count}")
        return {self._input.name: self.description.arranged(rows).astype(self._dtype, copy=False)}

    def _in_seconds(self, count: int, axis: str) -> str:
        features = self.description.features
        step = {"time": features.hop if features else 1, "samples": 1}.get(axis)
        return f" ({count * step / self.description.rate:g} s)" if step else ""

    # -- checks -------------------------------------------------------------------------

    @property
    def output(self) -> str:
        """Name of the scores."""
        return self._output

    @property
    def frames(self) -> int | None:
        """Fixed number of frames or samples of the model; None if it takes any number."""
        fixed = dict(zip(self.description.layout, self._input.shape)).get(self._time_axis)
        return fixed if isinstance(fixed, int) else None

    @property
    def _time_axis(self) -> str:
        return "time" if self.description.features else "samples"

    def _checked_input(self) -> Any:
        inputs = self.session.get_inputs()
        layout, features = self.description.layout, self.description.features
        expected = [features.n_mels if axis == "mel" and features else axis for axis in layout]
        wanted = f"expected one input tensor(float) ({', '.join(map(str, expected))})"
        if len(inputs) != 1:
            raise self._error(f"is not an audio tagger: it has {len(inputs)} inputs, {wanted}")
        (only,) = inputs
        shape = list(only.shape or [])
        fits = len(shape) == len(expected) and all(
            not isinstance(want, int) or not isinstance(dim, int) or dim == want for dim, want in zip(shape, expected)
        )
        if not fits or only.type not in _FLOATS:
            described = f"{only.type} ({', '.join(map(str, shape))})"
            what = "contradicts its description" if self._described else "is not an audio tagger"
            raise self._error(f"{what}: its input {only.name!r} is {described}, {wanted}{self._hint}")
        self._check_length(dict(zip(layout, shape)))
        return only

    def _check_length(self, shape: dict[Any, Any]) -> None:
        """Raise ModelError if the fixed length of the input is not the described one."""
        description = self.description
        fixed, seconds = shape.get(self._time_axis), description.lengths.fixed
        if seconds is None or not isinstance(fixed, int):
            return
        samples = round(seconds * description.rate)
        count = description.features.n_frames(samples) if description.features else samples
        if count != fixed:
            unit = "frames" if description.features else "samples"
            raise self._error(
                f"contradicts its description: {seconds:g} s are {count} {unit}, but its input takes {fixed}; "
                f"correct rate, hop or length.fixed"
            )

    def _names(self) -> list[str]:
        return [output.name for output in self.session.get_outputs()]

    def _named(self, kind: str) -> str | None:
        """Return the name of an output in the description. Raises ModelError if the model has no such output."""
        name = getattr(self.description.outputs, kind, None)
        if name is not None and name not in self._names():
            raise self._error(f"has no output {name!r}, which its description names; outputs are {self._names()}")
        return name

    def _find_frames(self) -> str | None:
        """Find the frame-wise scores: the named output, or the only one of three axes with the classes among them."""
        if self.description.frames is None:
            return None
        named = self._named("frames")
        rank = 2 + ("batch" in self.description.layout)
        found = [
            output.name for output in self.session.get_outputs()
            if output.shape is not None and len(output.shape) == rank and self.classes in output.shape[rank - 2 :]
        ]  # fmt: skip
        if named is None and len(found) != 1:
            raise self._error(
                f"contradicts its description: no output (batch, frames, {self.classes}) has frame-wise scores; "
                f"outputs are {self._listed()}"
            )
        return named or str(found[0])

    @property
    def _frames_output(self) -> str:
        if self._frames is None:
            raise self._error("has no frame-wise scores")
        return self._frames

    def _find_scores(self) -> str:
        """Find the output `logits`, else the first one with a score per class, else the only one of unknown size."""
        named = self._named("scores")
        if named is not None:
            self._check_classes(named)
            return named
        outputs = [output for output in self.session.get_outputs() if output.type in _FLOATS]
        outputs = [output for output in outputs if output.name != self._frames]
        if any(output.name == "logits" for output in outputs):
            self._check_classes("logits")
            return "logits"
        last = {output.name: output.shape[-1] if output.shape else None for output in outputs}
        found = [name for name, dim in last.items() if dim == self.classes]
        if found:
            return str(found[0])
        unknown = [name for name, dim in last.items() if not isinstance(dim, int)]
        if len(unknown) == 1:
            return str(unknown[0])
        if self._frames is not None:
            return self._frames
        what = "contradicts its description" if self._described else "is not an AudioSet tagger"
        raise self._error(f"{what}: no output has {self.classes} classes (outputs: {self._listed()}){self._hint}")

    def _check_classes(self, name: str) -> None:
        """Raise ModelError if the size of an output is known and differs from the number of labels."""
        shape = next(output.shape for output in self.session.get_outputs() if output.name == name)
        if shape and isinstance(shape[-1], int) and shape[-1] != self.classes:
            labels = f"{self.classes} labels" if self._described else f"AudioSet's {self.classes} classes"
            raise self._error(f"its output {name!r} is {tuple(shape)}, which does not fit {labels}{self._hint}")

    def _check_frame_rate(self) -> None:
        """Raise ModelError if the number of frame-wise scores of silence contradicts the described rate."""
        description = self.description
        if self._frames is None or description.frames is None:
            return
        seconds = max(_PROBE, description.lengths.shortest)
        seconds = min(seconds, description.lengths.longest or seconds)
        silence = np.zeros(round(seconds * description.rate), np.float32)
        self.prepare(len(silence))
        rows = description.hear(silence)
        count = len(self._framewise(self._run([self._frames], rows[None])[0]))
        expected = seconds * description.frames.rate
        if abs(count - expected) > max(1.5, 0.02 * expected):
            raise self._error(
                f"contradicts its description: {seconds:g} s give {count} frame-wise scores, not {expected:g} "
                f"({description.frames.rate:g} per second); correct frames.rate, hop or rate"
            )

    def _listed(self) -> str:
        outputs = self.session.get_outputs()
        more = f" and {len(outputs) - 4} more" if len(outputs) > 4 else ""
        return ", ".join(f"{output.name} {output.shape}" for output in outputs[:4]) + more

    @property
    def _hint(self) -> str:
        return "; correct it with `audiotag models describe`" if self._described else _NO_DESCRIPTION

    @cached_property
    def embedding(self) -> str:
        """The name of the embedding: the described output or `embedding`, else the pooled tensor nearest to the scores.

        Raises ModelError.
        """
        named = self._named("embedding")
        if named is not None or "embedding" in self._names():
            return named or "embedding"
        nodes = [node for node in [self._producer(self._output)] if node]
        for node in nodes:  # grows while iterating: breadth-first search from the output
            if node.op_type in _POOLS and node.outputs[0] is not None:
                return str(node.outputs[0].name)
            before = (value.producer for value in node.inputs if value is not None)
            nodes += [producer for producer in before if producer is not None and producer not in nodes]
        raise self._error("has no embedding: there is no pooling before the classifier")

    def _producer(self, name: str) -> Node | None:
        return next((value.producer for value in self.session.graph.outputs if value.name == name), None)

    def _error(self, problem: str) -> ModelError:
        return ModelError(printable(problem if problem.startswith(self.name) else f"{self.name}: {problem}"))


def sigmoid(logits: Array) -> Array:
    """Convert logits of any shape to probabilities, float64."""
    # exp can't overflow because its argument is never positive
    small = np.exp(-np.abs(logits.astype(np.float64)))
    probabilities: Array = np.where(logits >= 0, 1, small) / (1 + small)
    return probabilities
