"""The table of `python -m conformance precision`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conformance.precision import Comparison, compare, report
from onnx_conformance import ConformanceError
from tinyonnx.codegen.kernel import DISABLED
from tinyonnx.codegen.processor import has_bfloat16


def test_summary_counts_decisions_and_differences() -> None:
    exact = np.array([[0.9, 0.1, 0, 0, 0, 0], [0.2, 0.1, 0, 0, 0, 0], [0.4, 0.3, 0, 0, 0, 0.05]])
    rounded = exact.copy()
    rounded[1, 1] = 0.25
    rounded[2, 5] = 0.01
    result = Comparison(exact, rounded, (2, 1)).summary()
    assert (result["clips"], result["same_top1"], result["sure"], result["same_top1_sure"]) == (3, 2, 2, 2)
    assert result["max_difference"] == pytest.approx(0.15)
    assert result["mean_difference"] == pytest.approx(0.19 / 18)
    assert result["top5_overlap"] == 1
    text = report(result)
    assert "2 of 3 (66.7%)" in text
    assert "1, float32: 2" in text


@pytest.mark.skipif(not DISABLED and not has_bfloat16(), reason="the processor lacks AVX512-BF16")
def test_a_folder_without_recordings(tmp_path: Path) -> None:
    with pytest.raises(ConformanceError, match=r"no \.flac"):
        compare(str(Path(__file__).parents[2] / "models" / "default.onnx"), tmp_path)
