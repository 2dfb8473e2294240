"""Conformance of ONNX runtimes: onnx's backend suite, differential fuzzing, accuracy on real inputs."""

from __future__ import annotations


class ConformanceError(Exception):
    """A check that can't be run: its data is missing or unusable, or the oracle fails."""
