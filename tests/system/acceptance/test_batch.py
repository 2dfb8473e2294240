"""A batch of columns: one bad row loses none of the others."""

from __future__ import annotations

import numpy as np

from audiotag import Tagger


def test_rows_without_a_usable_rate() -> None:
    clip = np.zeros(1000, np.float32)
    rates = [16000, None, float("nan"), 0, np.int64(48000), np.float64(32000)]
    result = Tagger()({"audio": [clip] * len(rates), "rate": rates}, top=2)
    assert [error is not None and "rate" in error for error in result["error"]] == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]
    assert [len(tags) for tags in result["tags"]] == [2, 0, 0, 0, 2, 2]
