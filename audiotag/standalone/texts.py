"""Output of texts and names: a table of UTF-8 texts, packed once, and functions that append to the output.

Texts are numbered; `places` has the offset of each in `texts`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from audiotag.outputs.jsonl import json_text
from audiotag.sound.channels import CANCELLED, TOO_LOUD
from audiotag.sound.pcm import ENDS_EARLY, GOES_ON
from audiotag.sound.windows import TOO_SHORT
from audiotag.standalone import registers as reg
from audiotag.standalone.decimals import put, put_integer
from tinyonnx import jit

if TYPE_CHECKING:
    from tinyonnx.ir import Array

# numbers of texts, or of the first of a group: errors of clips, of the system by errno, options, labels
PROBLEM_TEXT, SYSTEM_TEXT, OPTION_TEXT, WRONG_TEXT = 0, 32, 288, 320
SYSTEM_TEXTS = 256
PROGRAM, HELP, VERSION, HEADING_END, JSON_END, STANDARD_OUTPUT = range(340, 346)
(
    BLANKS, LENGTH_START, LENGTH_END, NO_TAG, PATH, START, STOP, DURATION, TAGS, TAGS_END, SCORE_END, BETWEEN, ERROR,
    ERROR_END, COLON, TRY_HELP,
) = range(346, 362)  # fmt: skip
(
    EARLY, EARLY_MIDDLE, EARLY_END, COUNTS, COUNTS_END, ONLY, ONLY_END, FAR_TOO_LOUD, CANCELS, WARNING, JSON_WARNING,
    SEMICOLON, QUOTE, JSON_CLOSE,
) = range(362, 376)  # fmt: skip
LABEL = 400
"""Number of the first text of labels: for label i, its name is text LABEL + 2i, its JSON the one after it."""

FIXED = {
    BLANKS: "  ", LENGTH_START: "  (", LENGTH_END: " s)", NO_TAG: "  (no tag reaches the threshold)\n", COLON: ": ",
    PATH: '{"path": "', START: '", "start": ', STOP: ', "end": ', DURATION: ', "duration": ', TAGS: ', "tags": [',
    SCORE_END: "}", BETWEEN: ", ", TAGS_END: "]", ERROR: '", "error": {"type": "AudioError", "message": "',
    **dict(zip((EARLY, EARLY_MIDDLE, EARLY_END), ENDS_EARLY.split("{:.2f}"))),
    **dict(zip((COUNTS, COUNTS_END), GOES_ON.split("{:.2f}"))),
    **dict(zip((ONLY, ONLY_END), TOO_SHORT.split("{:.2f}"))),
    FAR_TOO_LOUD: TOO_LOUD, CANCELS: CANCELLED, WARNING: ": warning: ", JSON_WARNING: ', "warning": "', QUOTE: '"',
    SEMICOLON: "; ", JSON_CLOSE: "}\n", ERROR_END: '"}}\n', STANDARD_OUTPUT: "standard output: ",
    TRY_HELP: " (--help says more)\n",
}  # fmt: skip


def pack(texts: Mapping[int, str]) -> tuple[Array, Array]:
    """Pack texts by number into the arrays (texts, places)."""
    rows = [texts.get(i, "").encode() for i in range(max(texts) + 1)]
    places = np.cumsum([0, *map(len, rows)])
    return np.frombuffer(b"".join(rows), np.uint8).copy(), places.astype(np.int64)


def system_texts() -> dict[int, str]:
    """System error messages by text number."""
    return {SYSTEM_TEXT + code: os.strerror(code) for code in range(1, SYSTEM_TEXTS)}


def edges() -> Array:
    """Code points at which printable and unprintable ranges alternate, beginning with an unprintable one."""
    printable = np.array([chr(code).isprintable() for code in range(sys.maxunicode + 1)])
    starts: Array = np.flatnonzero(np.diff(printable, prepend=True)).astype(np.int64)
    return starts


def inside(text: str) -> str:
    """Escape a text for use between the quotes of JSON."""
    return json_text(text)[1:-1]


@jit
def put_text(c: Array, out: Array, number: int, texts: Array, places: Array) -> None:
    """Append a text by number."""
    for at in range(places[number], places[number + 1]):
        put(c, out, texts[at])


@jit
def put_filled(c: Array, out: Array, number: int, texts: Array, places: Array) -> None:
    """Append a text by number, with NUMBER and NUMBER_2 in place of its {}."""
    at, end, value = places[number], places[number + 1], c[reg.NUMBER]
    while at < end:
        if texts[at] == 123:
            put_integer(c, out, value, 1)
            value = c[reg.NUMBER_2]
            at += 1
        else:
            put(c, out, texts[at])
        at += 1


@jit
def put_name(c: Array, out: Array, name: Array, at: int, end: int, shown: bool, quoted: bool, edges: Array) -> None:
    """Append the file name name[at:end]: escaped like `printable` if `shown`, and for JSON if `quoted`."""
    while at < end:
        code, length = decode_utf8(name, at, end)
        at += length
        if shown and not is_printable(code, edges):
            put_escape(c, out, code, quoted)
        else:
            put_character(c, out, code, quoted, edges)


@jit
def decode_utf8(data: Array, at: int, end: int) -> Any:
    """Decode the character at a position: (code point, bytes); an invalid byte is U+DC00 + byte, as in Python."""
    first: Any = np.int64(data[at])
    length = 1 if first < 0x80 else 2 if 0xC2 <= first < 0xE0 else 3 if 0xE0 <= first < 0xF0 else 4
    if length == 1:
        return first, 1
    code: Any = first & (0x7F >> length)
    if 0xC2 <= first <= 0xF4 and at + length <= end:
        for i in range(1, length):
            byte = np.int64(data[at + i])
            code = code << 6 | byte & 0x3F if byte & 0xC0 == 0x80 else 1 << 40
        overlong = (length == 3 and code < 0x800) or (length == 4 and code < 0x10000)
        if not overlong and not 0xD800 <= code < 0xE000 and code <= 0x10FFFF:
            return code, length
    return 0xDC00 + first, 1


@jit
def is_printable(code: int, edges: Array) -> bool:
    """As `str.isprintable`."""
    low, high = 0, len(edges)
    while low < high:
        middle = (low + high) // 2
        if edges[middle] <= code:
            low = middle + 1
        else:
            high = middle
    return low % 2 == 0


@jit
def put_hex(c: Array, out: Array, value: int, digits: int) -> None:
    """Append a number in hexadecimal with the given number of digits."""
    for i in range(digits - 1, -1, -1):
        digit = value >> 4 * i & 15
        put(c, out, digit + (48 if digit < 10 else 87))


@jit
def put_escape(c: Array, out: Array, code: int, quoted: bool) -> None:
    """Append a character escaped like Python's unicode_escape; within JSON its backslash is doubled."""
    put(c, out, 92)
    if quoted:
        put(c, out, 92)
    if code in (9, 10, 13):
        put(c, out, 116 if code == 9 else 110 if code == 10 else 114)
    elif code < 0x100:
        put(c, out, 120)
        put_hex(c, out, code, 2)
    elif code < 0x10000:
        put(c, out, 117)
        put_hex(c, out, code, 4)
    else:
        put(c, out, 85)
        put_hex(c, out, code, 8)


@jit
def put_character(c: Array, out: Array, code: int, quoted: bool, edges: Array) -> None:
    """Append a character in UTF-8; within JSON, escaped like `json_text`."""
    if not quoted or (code not in (34, 92) and is_printable(code, edges)):
        if code < 0x80:
            put(c, out, code)
            return
        length = 2 if code < 0x800 else 3 if code < 0x10000 else 4
        put(c, out, (0xF00 >> length & 0xFF) | code >> 6 * (length - 1))
        for i in range(length - 2, -1, -1):
            put(c, out, 0x80 | code >> 6 * i & 0x3F)
    elif code in (34, 92):
        put(c, out, 92)
        put(c, out, code)
    elif code in (8, 9, 10, 12, 13):
        put(c, out, 92)
        put(c, out, 98 if code == 8 else 116 if code == 9 else 110 if code == 10 else 102 if code == 12 else 114)
    elif code < 0x10000:
        put_unit(c, out, code)
    else:
        put_unit(c, out, 0xD800 + (code - 0x10000 >> 10))
        put_unit(c, out, 0xDC00 + (code - 0x10000 & 0x3FF))


@jit
def put_unit(c: Array, out: Array, unit: int) -> None:
    """Append an escaped UTF-16 code unit."""
    put(c, out, 92)
    put(c, out, 117)
    put_hex(c, out, unit, 4)
