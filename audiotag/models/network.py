"""An ONNX model that has been checked to be an AudioSet tagger."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

import tinyonnx
from audiotag.errors import ModelError, printable
from audiotag.features.mel import DEFAULT
from audiotag.labels import N_CLASSES

if TYPE_CHECKING:
    from tinyonnx.ir import Array, Node


_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}

_POOLS = ("GlobalAveragePool", "AveragePool", "ReduceMean")


class Network:
    """A loaded model that maps log-mel features to 527 logits.

    Args:
        source: an ONNX file, or its content.
        name: name of the model in error messages.
        threads: number of threads of a run, at most one per processor.

    Attributes:
        sha256: SHA-256 of the file in hexadecimal; None if the content was given.

    Raises:
        ModelError: the model can't be loaded, or its input or outputs are not those of a tagger.
    """

    def __init__(self, source: str | bytes, name: str, threads: int = 1) -> None:
        self.name = name
        options = tinyonnx.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self.session = tinyonnx.InferenceSession(source, options)
        except (tinyonnx.Error, OSError) as error:
            raise self._error(str(error)) from None
        self.sha256 = self.session.sha256
        self._input = self._checked_input()
        self._dtype = _FLOATS[self._input.type]
        self._output = self._find_logits()

    def __call__(self, log_mel: Array) -> Array:
        """Compute logits (batch, 527) float32 of features (batch, 128, time) float32.

        Raises ModelError.
        """
        return self._logits(self._run([self._output], log_mel)[0], len(log_mel))

    def with_embedding(self, log_mel: Array) -> tuple[Array, Array]:
        """Compute logits (batch, 527) and embeddings (batch, n) float32 of features (batch, 128, time) float32.

        The embedding is the input of the classifier, a mean over time and frequency.

        Raises ModelError.
        """
        batch = len(log_mel)
        logits, embedding = self._run([self._output, self.embedding], log_mel)
        if np.size(embedding) % batch:
            raise self._error(
                f"tensor {self.embedding!r} has shape {np.shape(embedding)}, which is not an embedding of {batch} clips"
            )
        return self._logits(logits, batch), np.reshape(embedding, (batch, -1)).astype(np.float32, copy=False)

    def _run(self, outputs: list[str], log_mel: Array) -> list[Array]:
        try:
            return self.session.run(outputs, self.feeds(log_mel))
        except tinyonnx.Error as error:
            raise self._error(str(error)) from None

    def _logits(self, logits: Array, batch: int) -> Array:
        # some exports drop the batch axis, or make it the second one
        if np.size(logits) != batch * N_CLASSES:
            raise self._error(f"output {self._output!r} has shape {np.shape(logits)}, not ({batch}, {N_CLASSES})")
        result: Array = np.reshape(logits, (batch, N_CLASSES)).astype(np.float32, copy=False)
        if not np.isfinite(result).all():
            raise self._error("gives NaN or infinite scores")
        return result

    @property
    def output(self) -> str:
        """The name of the logits."""
        return self._output

    @property
    def frames(self) -> int | None:
        """The fixed number of frames of the model, None for any number."""
        fixed = self._input.shape[3]
        return fixed if isinstance(fixed, int) else None

    def feeds(self, log_mel: Array) -> dict[str, Array]:
        """Make the session's inputs for features (batch, 128, time) float32.

        Raises ModelError if the model has another fixed number of clips or frames.
        """
        batch, _, time = log_mel.shape
        for fixed, given, what in zip(self._input.shape[::3], (batch, time), ("clips", "frames"), strict=True):
            if isinstance(fixed, int) and fixed != given:
                raise self._error(f"takes exactly {fixed} {what}{self._in_seconds(fixed, what)}, not {given}")
        return {self._input.name: log_mel[:, None].astype(self._dtype, copy=False)}

    @staticmethod
    def _in_seconds(frames: int, what: str) -> str:
        seconds = frames * DEFAULT.hop_length / DEFAULT.sample_rate
        return f" ({seconds:g} s)" if what == "frames" else ""

    def _checked_input(self) -> Any:
        inputs = self.session.get_inputs()
        expected = ("batch", 1, DEFAULT.n_mels, "time")
        wanted = f"expected one input tensor(float) ({', '.join(map(str, expected))})"
        if len(inputs) != 1:
            raise self._error(f"is not an audio tagger: it has {len(inputs)} inputs, {wanted}")
        (only,) = inputs
        shape = list(only.shape or [])
        fits = len(shape) == 4 and all(
            not isinstance(want, int) or not isinstance(dim, int) or dim == want
            for dim, want in zip(shape, expected, strict=True)
        )
        if not fits or only.type not in _FLOATS:
            described = f"{only.type} ({', '.join(map(str, shape))})"
            raise self._error(f"is not an audio tagger: its input {only.name!r} is {described}, {wanted}")
        return only

    def _find_logits(self) -> str:
        """Find the output `logits`, else the first one with 527 classes, else the only one of unknown size."""
        outputs = [output for output in self.session.get_outputs() if output.type in _FLOATS]
        if any(output.name == "logits" for output in outputs):
            return "logits"
        last = {output.name: output.shape[-1] if output.shape else None for output in outputs}
        named = [name for name, dim in last.items() if dim == N_CLASSES]
        if named:
            return str(named[0])
        unknown = [name for name, dim in last.items() if not isinstance(dim, int)]
        if len(unknown) == 1:
            return str(unknown[0])
        listed = ", ".join(f"{output.name} {output.shape}" for output in outputs[:4])
        more = f" and {len(outputs) - 4} more" if len(outputs) > 4 else ""
        raise self._error(f"is not an AudioSet tagger: no output has {N_CLASSES} classes (outputs: {listed}{more})")

    @cached_property
    def embedding(self) -> str:
        """The name of the embedding: the pooled tensor that is nearest to the logits.

        Raises ModelError.
        """
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
