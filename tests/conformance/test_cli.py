from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from conformance.__main__ import main

DEFAULT = "untrained-mn01"


def test_layers_of_the_shipped_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layers", DEFAULT, "--dim", "time=64"]) == 0
    out = capsys.readouterr().out
    assert "OVER" not in out
    assert "logits" in out
    assert "not compared" not in out


def test_layers_one_node_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layers", DEFAULT, "--dim", "time=64", "--unfused"]) == 0
    assert "BatchNormalization" in capsys.readouterr().out


def test_layers_over_tolerance(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layers", DEFAULT, "--dim", "time=64", "--tolerance", "1e-12"]) == 1
    assert "FAILED, first in: " in capsys.readouterr().out


def test_golden_numbers_of_another_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    shapes = {"melspec": (128, 20), "logits": (527,), "embedding": (96,)}
    arrays = {f"x:{name}": rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    np.savez(tmp_path / "golden.npz", **arrays)
    assert main(["layers", DEFAULT, "--golden", str(tmp_path / "golden.npz")]) == 1
    out = capsys.readouterr().out
    assert "FAILED  logits" in out
    assert "skipped melspec" in out


def test_accuracy(shared: Path, mn04: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["esc10", str(shared / "data/esc10"), "--model", str(mn04), "--folds", "1", "--json"]
    assert main([*command, "--at-least", "79", "--against", "onnxruntime"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["correct"], result["clips"], result["against"]["differing"]) == (79, 80, [])
    assert main([*command, "--at-least", "80"]) == 1


@pytest.mark.parametrize(
    ("argv", "culprit"),
    [
        (["layers", "missing.onnx"], "missing.onnx"),
        (["layers", "no-such-model"], "no-such-model"),
        (["layers", "missing.pt"], "missing.pt"),
        (["layers", DEFAULT, "--golden", "missing.npz"], "missing.npz"),
        (["esc10", "nowhere", "--model", DEFAULT], "nowhere"),
    ],
)
def test_mistakes_are_one_line(argv: list[str], culprit: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert culprit in captured.err


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["layers"],
        ["layers", "m", "--dim", "t"],
        ["layers", "m", "--seed", "-1"],
        ["layers", "m", "--tolerance", "nan"],
        ["esc10", "."],
        ["esc10", ".", "--model", "m", "--folds", "x"],
        ["esc10", ".", "--model", "m", "--at-least", "-1"],
        ["backend", "--match", "("],
        ["backend", "--jobs", "0"],
    ],
)
def test_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert re.fullmatch(r"python -m conformance.*: error: .*--help\)\n", capsys.readouterr().err)
