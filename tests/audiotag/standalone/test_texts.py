"""Texts and names as the kernels write them, beside Python."""

from __future__ import annotations

import os

import numpy as np
import pytest

from audiotag.errors import printable
from audiotag.outputs.jsonl import json_text
from audiotag.standalone import registers as reg
from audiotag.standalone import texts

NAMES = ["a.wav", "ä ö €.wav", "two\nlines\t\r\x01\x08\x0c", 'quo"te\\', "\U0001f415 \U0010ffff",
         "\u2028\x7f\xa0\u0378", "\ud7ff\ue000", "\udc80\udcff end", ""]  # fmt: skip
EDGES = texts.edges()


def written(put, *arguments):
    c, out = np.zeros(reg.REGISTERS, np.int64), np.zeros(1000, np.uint8)
    put(c, out, *arguments)
    return out[: c[reg.COUNT]].tobytes()


def name_of(name, shown, quoted):
    data = np.frombuffer(os.fsencode(name) + b"\0", np.uint8)
    return written(texts.put_name, data, 0, len(data) - 1, shown, quoted, EDGES)


@pytest.mark.parametrize("name", NAMES)
def test_names(name):
    assert name_of(name, True, False).decode() == printable(name)
    assert name_of(name, False, True).decode() == texts.inside(name) == json_text(name)[1:-1]
    assert name_of(name, True, True).decode() == texts.inside(printable(name))


@pytest.mark.parametrize(
    "data",
    [b"\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xe2\x82"],
)
def test_bytes_that_are_no_utf_8(data):
    assert name_of(os.fsdecode(data), False, True).decode() == texts.inside(os.fsdecode(data))


def test_texts_are_found_by_number():
    packed, places = texts.pack({0: "first", 2: "ä {} of {}!", 5: ""})
    assert written(texts.put_text, 0, packed, places) == b"first"
    assert written(texts.put_text, 1, packed, places) == b""
    assert written(texts.put_text, 5, packed, places) == b""


def test_numbers_are_filled_in():
    packed, places = texts.pack({0: "{} of {} bytes"})
    c, out = np.zeros(reg.REGISTERS, np.int64), np.zeros(100, np.uint8)
    c[reg.NUMBER], c[reg.NUMBER_2] = 12, 345
    texts.put_filled(c, out, 0, packed, places)
    assert out[: c[reg.COUNT]].tobytes() == b"12 of 345 bytes"


def test_what_finds_no_room_is_dropped():
    packed, places = texts.pack({0: "abcdef"})
    c, out = np.zeros(reg.REGISTERS, np.int64), np.zeros(4, np.uint8)
    texts.put_text(c, out, 0, packed, places)
    assert (out.tobytes(), c[reg.COUNT]) == (b"abcd", 4)


def test_system_messages():
    assert texts.system_texts()[texts.SYSTEM_TEXT + 2] == os.strerror(2)
