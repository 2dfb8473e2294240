"""Rows that every format must encode."""

from __future__ import annotations

from audiotag import Failure, Result, Tag
from audiotag.options import TagOptions
from audiotag.outputs import FORMATS

DOG = Tag("Dog", "/m/0bt9lr", 74, 0.75)


SPEECH = Tag("Male speech, man speaking", "/m/05zppz", 1, 0.5)


WINDOW = TagOptions(window=2.0)


ERROR = Failure("b.wav", "AudioError", 'b.wav: is "empty"')


def result(*tags, path="a.wav", start=0.5, end=2.5, **more):
    return Result(path, start, end, end - start, tags, "linear", "00ff", True, **more)


def encoded(format, *rows, options=WINDOW):
    encoder = FORMATS[format](options)
    return encoder.header() + "".join(map(encoder.encode, rows))
