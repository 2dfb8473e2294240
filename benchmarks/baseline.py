"""Baseline without this project: soundfile, log-mel features in plain numpy, ONNX Runtime.

`python -m benchmarks.baseline MODEL.onnx CLIP.wav` prints the ten best classes of a mono clip at
32 kHz. It imports nothing of this project, so that whole processes can be compared.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

RATE, N_FFT, WINDOW, HOP, N_MELS, TOP_HZ = 32000, 1024, 800, 320, 128, 15000.0


class LogMel:
    """Log-mel features of (n,) samples, (128, frames): window, rfft, dense filter bank and logarithm, in float32."""

    def __init__(self) -> None:
        self.window = np.zeros(N_FFT, np.float32)
        margin = (N_FFT - WINDOW) // 2
        self.window[margin:-margin] = np.hanning(WINDOW)
        self.bank = _filterbank()

    def __call__(self, x: Array) -> Array:
        emphasised = np.pad(x[1:] - np.float32(0.97) * x[:-1], N_FFT // 2, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(emphasised, N_FFT)[::HOP]
        spectrum = np.fft.rfft(frames * self.window)
        power = spectrum.real**2 + spectrum.imag**2
        result: Array = (np.log(self.bank @ power.T + np.float32(1e-5)) + np.float32(4.5)) / np.float32(5)
        return result


def _filterbank() -> Array:
    """Return triangular filters of equal width on Kaldi's mel scale, (128, 513), zero at the Nyquist bin."""

    def mel(hz: Any) -> Any:
        return 1127 * np.log(1 + np.asarray(hz) / 700)

    edges = np.linspace(0, mel(TOP_HZ), N_MELS + 2)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bins = mel(np.arange(N_FFT // 2) * RATE / N_FFT)
    triangles = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre))
    return np.pad(np.maximum(0, triangles), ((0, 0), (0, 1))).astype(np.float32)


class Script:
    """A loaded model that tags clips."""

    def __init__(self, model: str, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.log_mel = LogMel()

    def best(self, clip: str, top: int = 10) -> tuple[Array, Array]:
        """Return indices and probabilities of the best classes of a clip."""
        import soundfile

        samples, rate = soundfile.read(clip, dtype="float32")
        assert rate == RATE
        (logits,) = self.session.run(["logits"], {"melspec": self.log_mel(samples)[None, None]})
        scores = 1 / (1 + np.exp(-logits[0]))
        indices = np.argsort(-scores)[:top]
        return indices, scores[indices]


if __name__ == "__main__":
    script = Script(sys.argv[1])
    for path in sys.argv[2:]:
        for index, score in zip(*script.best(path), strict=True):
            print(f"{score:.3f}  {index}")
