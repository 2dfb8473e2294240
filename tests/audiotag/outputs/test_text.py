from __future__ import annotations

from tests.audiotag.outputs.examples import DOG, SPEECH, encoded, result


def test_text_of_a_timeline_has_a_line_for_each_window():
    lines = encoded("text", result(DOG, SPEECH), result(), result(DOG, path="c.wav")).splitlines()
    assert lines == [
        "",
        "a.wav  [linear]",
        "      0.50     2.50  0.7500 Dog, 0.5000 Male speech, man speaking",
        "      0.50     2.50  -",
        "",
        "c.wav  [linear]",
        "      0.50     2.50  0.7500 Dog",
    ]
