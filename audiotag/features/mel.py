"""Log-mel features: pre-emphasis, window, STFT, mel filter bank, logarithm.

Pure functions on float32 arrays, and `LogMelStream`, which computes the same features block by
block in constant memory. Both give identical bits, however a clip is split into blocks.

Clips shorter than `MelConfig.min_samples` (514 samples or 16 ms for EfficientAT) are too short for reflection at
their ends; they are padded with zeros to that length and give two frames, even without any sample.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from audiotag.features import mel_stream
from audiotag.features.fft_kernel import Curve, Tables, tables
from audiotag.features.mel_stream import Ends, FrontEnd, State
from audiotag.features.samples import NO_SAMPLES
from audiotag.features.settings import MelConfig, mel_filterbank, window
from tinyonnx.codegen.arguments import cells, kinds_of
from tinyonnx.codegen.kernel import DISABLED, BoundKernel, Kernel

if TYPE_CHECKING:
    from tinyonnx.ir import Array


DEFAULT = MelConfig()
"""EfficientAT's front end."""


@cache
def _tables(config: MelConfig) -> Tables:
    return tables(window(config), mel_filterbank(config), config.hop)


def front_end(config: MelConfig) -> FrontEnd:
    """Return the parameters of a config for the kernels, with scratch memory of their own."""
    f32, log = np.float32, config.log
    tables_ = _tables(config)
    natural = 1.0 if log.base == "e" else float(np.log(10))  # ln(x) = natural · log(x)
    curve = Curve(
        f32(log.offset), f32(log.floor), f32(config.shift * natural), f32(1 / (config.scale * natural)),
        int(config.power == 1),
    )  # fmt: skip
    ends = Ends(config.padding, config.least, config.lost, int(config.centre == "zero"))
    return FrontEnd(f32(config.preemphasis or 0), ends, curve, f32(range_of(config)), tables_, tables_.scratch())


def range_of(config: MelConfig) -> float:
    """Return how far below the greatest feature of a clip features are cut off; infinite without `top_db`."""
    if config.log.top_db is None:
        return float("inf")
    decibel = float(np.log(10)) / 10 if config.log.base == "e" else 0.1
    return abs(config.log.top_db * decibel / config.scale)


def limit(features: Array, config: MelConfig) -> Array:
    """Cut off, in place, features (n_mels, t) of a whole clip that are too far below the greatest one; return them."""
    below = range_of(config)
    if below < float("inf") and features.size:
        np.maximum(features, features.max() - np.float32(below), out=features)
    return features


class _Workspace:
    """Memory and encoded arguments of a stream; to make them takes a third of the time of a clip of 10 s."""

    def __init__(self, config: MelConfig) -> None:
        self.registers = np.zeros(mel_stream.REGISTERS, np.int64)
        y = np.empty(mel_stream.capacity(config.n_fft, config.hop), np.float32)
        self._state = State(self.registers, y)
        self._first = len(cells([self._state]))  # index of `x` in the row
        self._front = front_end(config)
        self._call: BoundKernel | None = None

    def run(self, x: Array, what: int, out: Array) -> None:
        """Write new frames to the columns of `out`, (n_mels, frames), after those of the last call."""
        x = np.ascontiguousarray(x, np.float32)
        args = (self._state, x, what, out.reshape(-1), out.shape[1], self._front)
        if self._call is None:
            self._call = BoundKernel(mel_stream.push, args)
        else:  # to encode all arguments for every block costs more than a short block itself
            self._call.args = args
            if not DISABLED:
                numbers = x.ctypes.data, x.size, what, out.ctypes.data, out.size, out.shape[1]
                self._call.row[self._first : self._first + len(numbers)] = numbers
        self._call.run(0, 1)
        self._call.args = (self._state, self._front)  # a workspace that is not in use must not keep samples


_KEPT = 4
"""Maximum number of workspaces of a front end that wait for the next clip."""


@cache
def _waiting(config: MelConfig) -> list[_Workspace]:
    """Return the workspaces of a front end that no stream uses; threads share the list, whose methods are atomic."""
    return []


def _take(config: MelConfig) -> _Workspace:
    try:
        workspace = _waiting(config).pop()
    except IndexError:
        return _Workspace(config)
    workspace.registers[:] = 0
    return workspace


def _give_back(workspace: _Workspace, config: MelConfig) -> None:
    waiting = _waiting(config)
    if len(waiting) < _KEPT:
        waiting.append(workspace)


def kernel_of(config: MelConfig) -> tuple[Kernel, str]:
    """Return the kernel of a front end, with the kinds of its arguments."""
    state, nothing = State(np.empty(0, np.int64), np.empty(0, np.float32)), np.empty(0, np.float32)
    return mel_stream.push, kinds_of((state, nothing, mel_stream.MORE, nothing, 0, front_end(config)))


class LogMelStream:
    """Log-mel features of a clip that arrives in blocks.

    `push` takes (n,) float32 samples, `finish` the last ones; both return the newly completed
    frames, (n_mels, t) float32. `limit`, which needs the whole clip, remains to be applied.
    """

    def __init__(self, config: MelConfig = DEFAULT) -> None:
        self.config = config
        self.n_samples = 0
        """Number of samples so far."""
        self._frames = 0
        self._workspace: _Workspace | None = _take(config)

    def push(self, x: Array) -> Array:
        """Take samples. Raises ValueError after the end of the clip."""
        return self._columns(x, mel_stream.ALL)

    def finish(self, x: Array = NO_SAMPLES) -> Array:
        """Take the last samples, if any. Raises ValueError after the end of the clip."""
        columns = self._columns(x, mel_stream.LAST)
        assert self._workspace is not None
        _give_back(self._workspace, self.config)
        self._workspace = None
        return columns

    def _columns(self, x: Array, what: int) -> Array:
        """Return the new frames in memory of their own."""
        if self._workspace is None:
            raise ValueError("the clip has ended")
        self.n_samples += len(x)
        out = np.empty((self.config.n_mels, self.config.n_frames(self.n_samples) - self._frames), np.float32)
        registers = self._workspace.registers
        registers[mel_stream.FRAMES] = 0
        self._workspace.run(x, what, out)
        frames = int(registers[mel_stream.FRAMES])
        self._frames += frames
        return out[:, :frames]


def log_mel(x: Array, config: MelConfig = DEFAULT) -> Array:
    """Compute the log-mel features of a clip.

    Args:
        x: (N,) mono samples at `config.rate`, full scale 1.0; N may be 0.
        config: parameters of the front end.

    Returns:
        (n_mels, 1 + (max(N, min_samples) - 1) // hop) float32; digital silence is -1.402585.
    """
    features = np.empty((config.n_mels, config.n_frames(len(x))), np.float32)
    workspace = _take(config)
    workspace.run(x, mel_stream.LAST, features)
    _give_back(workspace, config)
    return limit(features, config)


def join_frames(blocks: Iterable[Array]) -> Array:
    """Concatenate (n, t) blocks along time, freeing each after it is copied; one alone is returned itself."""
    parts = list(blocks)
    if len(parts) == 1:
        return parts[0]
    joined = np.empty((len(parts[0]), sum(part.shape[1] for part in parts)), np.float32)
    parts.reverse()
    at = 0
    while parts:
        part = parts.pop()
        joined[:, at : at + part.shape[1]] = part
        at += part.shape[1]
    return joined
