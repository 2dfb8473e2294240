"""Texts and names as the front end writes them, compared with Python."""

from __future__ import annotations

import ctypes
import os

import numpy as np
import pytest

from audiotag.errors import printable
from audiotag.outputs.jsonl import json_text
from audiotag.standalone import source
from tests.audiotag.standalone.front import front_end

NAMES = ["a.wav", "ä ö €.wav", "two\nlines\t\r\x01\x08\x0c", 'quo"te\\', "\U0001f415 \U0010ffff",
         "\u2028\x7f\xa0\u0378", "\ud7ff\ue000", "\udc80\udcff end", ""]  # fmt: skip


def name_of(name, shown, quoted):
    return front_end().text("write_name", os.fsencode(name), int(shown), int(quoted))


def inside(text):
    """Return a text between the quotes of JSON."""
    return json_text(text)[1:-1]


@pytest.mark.parametrize("name", NAMES)
def test_names(name):
    assert name_of(name, True, False).decode() == printable(name)
    assert name_of(name, False, True).decode() == inside(name)
    assert name_of(name, True, True).decode() == inside(printable(name))


@pytest.mark.parametrize(
    "data",
    [b"\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xe2\x82"],
)
def test_bytes_that_are_no_utf_8(data):
    assert name_of(os.fsdecode(data), False, True).decode() == inside(os.fsdecode(data))


def test_templates_are_filled_in():
    numbers = ctypes.c_int64(12345678901), b"t\xc3\xa4xt", ctypes.c_double(2.345)
    found = front_end().text("write_format", b"%d of %s, 100 %%: %f s", *numbers)
    assert found.decode() == "12345678901 of täxt, 100 %: 2.35 s"


def test_literals_of_c():
    assert source.quoted('a "b" \\ ä?\n') == '"a \\042b\\042 \\134 \\303\\244\\077\\012"'


def test_system_messages():
    text = source.facts_source(front_end().facts, 20)
    assert source.quoted(os.strerror(2)) in text


def test_printable_is_python_s():
    edges = source.edges()
    codes = np.arange(0x110000)
    printables = np.searchsorted(edges, codes, side="right") % 2 == 0
    assert printables.tolist() == [chr(code).isprintable() for code in codes.tolist()]
