from __future__ import annotations

from tests.audiotag.outputs.examples import DOG, ERROR, SPEECH, encoded, result


def test_audacity():
    text = encoded("audacity", result(DOG, SPEECH), result(), ERROR, result(SPEECH, start=3, end=4.25))
    lines = [line.split("\t") for line in text.splitlines()]
    assert lines == [
        ["0.500000", "2.500000", "Dog, Male speech, man speaking"],
        ["3.000000", "4.250000", "Male speech, man speaking"],
    ]
