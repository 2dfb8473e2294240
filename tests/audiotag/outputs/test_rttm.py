from __future__ import annotations

from tests.audiotag.outputs.examples import DOG, ERROR, SPEECH, encoded, result


def test_rttm():
    lines = encoded("rttm", result(DOG, SPEECH, path="my clip.wav"), result(), ERROR).splitlines()
    assert [line.split(" ") for line in lines] == [
        ["SPEAKER", "my_clip.wav", "1", "0.500", "2.000", "<NA>", "<NA>", "Dog", "0.7500", "<NA>"],
        [
            "SPEAKER",
            "my_clip.wav",
            "1",
            "0.500",
            "2.000",
            "<NA>",
            "<NA>",
            "Male_speech,_man_speaking",
            "0.5000",
            "<NA>",
        ],
    ]


def test_names_are_one_word():
    (line,) = encoded("rttm", result(DOG, path="a\tb\nc\xa0\x1b.wav")).splitlines()
    assert line.split(" ")[1] == r"a\tb\nc\xa0\x1b.wav"
