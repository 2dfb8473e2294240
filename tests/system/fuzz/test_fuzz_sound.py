"""Some of the files of `fuzz_sound`, which prints and keeps its findings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.fuzz import fuzz_sound


def test_mutated_files_are_the_same_by_path_as_bytes_and_through_a_pipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("av")
    assert fuzz_sound.main(150, 0, tmp_path) == 0, capsys.readouterr().out
