"""Benchmarks of log-mel features and of tagging whole sound files."""

from __future__ import annotations

import os

import numpy as np

from benchmarks.model import model_file
from benchmarks.turns import Array, Case, Contender, take_turns
from tinyonnx.commands._shared import plural

RATE = 32000


def make_samples(seconds: float) -> Array:
    """Synthesise a tone of varying pitch in noise: (n,) float32 at 32 kHz."""
    time = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(0).standard_normal(len(time))
    samples: Array = (0.3 * np.sin(2 * np.pi * 440 * time + 20 * np.sin(2 * time)) + 0.05 * noise).astype(np.float32)
    return samples


def make_clip(seconds: float, folder: str) -> str:
    """Write a 16-bit WAV file of the given length, mono at 32 kHz, and return its path."""
    import soundfile

    path = os.path.join(folder, f"{seconds:g}s.wav")
    soundfile.write(path, make_samples(seconds), RATE, subtype="PCM_16")
    return path


def mel_case(seconds: float, folder: str, repeats: int) -> Case:
    """Compare the features of a clip with the plain numpy formulation, one thread each."""
    path = os.path.join(folder, "samples.npy")
    np.save(path, make_samples(seconds))
    contenders = [
        Contender("audiotag", "benchmarks.peers:audiotag_mel", {"samples": path}),
        Contender("numpy", "benchmarks.peers:numpy_mel", {"samples": path}),
    ]
    take_turns(contenders[:1], threads=1, repeats=0, reference="")
    measurements = take_turns(contenders, threads=1, repeats=repeats, reference="numpy")
    return Case("mel", f"log-mel features of {seconds:g} s", measurements, {"seconds": seconds})


def clip_case(model: str, seconds: float, threads: int, folder: str, repeats: int, precision: str = "float32") -> Case:
    """Compare tagging a WAV file with a loaded model, by CPU time."""
    arguments = {
        "model": model_file(model, folder),
        "clip": make_clip(seconds, folder),
        "threads": threads,
    }
    contenders = [
        Contender("audiotag", "benchmarks.peers:audiotag_clip", arguments | {"precision": precision}),
        Contender("script", "benchmarks.peers:script_clip", arguments),
    ]
    take_turns(contenders[:1], threads=threads, repeats=0, reference="")
    measurements = take_turns(contenders, threads=threads, repeats=repeats, reference="script")
    title = f"WAV file of {seconds:g} s to tags, {os.path.basename(model)} in {precision}, {plural(threads, 'thread')}"
    return Case(
        "clip",
        title,
        measurements,
        {"model": model, "seconds": seconds, "threads": threads, "precision": precision},
    )
