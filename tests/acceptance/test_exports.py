"""Every export of mn04, and our own conversion of its checkpoint, against PyTorch's numbers on ten clips."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance import golden
from tinyonnx import InferenceSession

EXPORTS = ["mn04_torchscript", "mn04_torchscript_opset13", "mn04_dynamo", "mn04_hear_multi_output"]


@pytest.fixture(scope="module")
def clips(shared: Path) -> list[golden.Clip]:
    clips = golden.read_clips(shared / "data/golden_mn04.npz")
    assert len(clips) == 10
    assert len(clips[0].features) == 17
    return clips


def failures(session: InferenceSession, clips: list[golden.Clip]) -> list[str]:
    checks = list(golden.check_model(session, clips))
    assert [check.what for check in checks] == [*(f"features.{i}" for i in range(17)), "logits", "embedding"]
    return [str(check) for check in checks if not check.ok]


@pytest.mark.parametrize("name", EXPORTS)
def test_export(name: str, shared: Path, clips: list[golden.Clip]) -> None:
    assert failures(InferenceSession(shared / f"data/onnx/{name}.onnx"), clips) == []


def test_converted_checkpoint(shared: Path, clips: list[golden.Clip], mn04: Path) -> None:
    assert failures(InferenceSession(mn04), clips) == []


def test_log_mel_of_the_recordings(shared: Path, clips: list[golden.Clip]) -> None:
    check = golden.check_features(clips, shared / "data/esc10")
    assert check.ok, str(check)
