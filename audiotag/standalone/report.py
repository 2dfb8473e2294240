"""The kernel from logits, or from what went wrong, to rows of text or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audiotag.standalone.control import (
    ACTION,
    ANALYSE,
    ARRANGE,
    BAD_SCORES,
    COUNT,
    FAILED,
    FRAMES,
    JSON,
    KERNEL,
    MODEL,
    NAME,
    NAME_END,
    NEXT,
    NO_PROGRAM,
    NUMBER,
    PART_END,
    PART_START,
    PLACE,
    PROBLEM,
    REPORT,
    RESULT,
    SECOND,
    SYSTEM,
    THRESHOLD,
    TOP,
    WINDOW,
    WINDOWS,
    WRITE,
    WRITTEN,
)
from audiotag.standalone.decimals import put, put_fixed, put_score, put_seconds
from audiotag.standalone.scores import rank
from audiotag.standalone.texts import (
    BETWEEN,
    BLANKS,
    COLON,
    DURATION,
    ERROR,
    ERROR_END,
    HEADING_END,
    JSON_END,
    JSON_LABEL,
    LABEL,
    LENGTH_END,
    LENGTH_START,
    NO_TAG,
    PATH,
    PROBLEM_TEXT,
    PROGRAM,
    SCORE_END,
    START,
    STOP,
    SYSTEM_TEXT,
    SYSTEM_TEXTS,
    TAGS,
    TAGS_END,
    put_filled,
    put_name,
    put_text,
)
from tinyonnx import jit, kernel

if TYPE_CHECKING:
    from tinyonnx.ir import Array

_RATE = 32000


@kernel
def report(
    c: Array, settings: Array, reals: Array, arguments: Array, logits: Array, scores: Array, order: Array, limbs: Array,
    texts: Array, places: Array, edges: Array, out: Array, part: int, parts: int,
) -> None:  # fmt: skip
    """Write a row and go on with the clip, or say what is wrong with it and go on with the next one."""
    c[COUNT] = 0
    if c[ACTION] == MODEL and c[RESULT] < 0:
        c[PROBLEM], c[NUMBER] = NO_PROGRAM, c[FRAMES]
    count = 0
    if not c[PROBLEM]:
        count = rank(logits, settings[TOP], reals[THRESHOLD], scores, order)
        if count < 0:
            c[PROBLEM] = BAD_SCORES
    c[ACTION], c[KERNEL] = WRITE, ARRANGE
    if c[PROBLEM] and not c[SECOND]:
        c[FAILED] = 1
        put_text(c, out, PROGRAM, texts, places)
        put_problem(c, arguments, False, texts, places, edges, out)
        put(c, out, 10)
        c[PLACE] = 2
        if settings[JSON]:
            c[SECOND], c[NEXT] = 1, REPORT
        return
    c[PLACE] = 1
    if c[PROBLEM]:
        put_text(c, out, PATH, texts, places)
        put_name(c, out, arguments, c[NAME], c[NAME_END], False, True, edges)
        put_text(c, out, ERROR, texts, places)
        put_problem(c, arguments, True, texts, places, edges, out)
        put_text(c, out, ERROR_END, texts, places)
        return
    if settings[WINDOW]:
        c[NEXT] = ANALYSE
    if settings[JSON]:
        put_json(c, arguments, scores, order, count, limbs, texts, places, edges, out)
    else:
        put_lines(c, settings, arguments, scores, order, count, limbs, texts, places, edges, out)


@jit
def put_problem(
    c: Array, arguments: Array, quoted: bool, texts: Array, places: Array, edges: Array, out: Array
) -> None:  # fmt: skip
    """The clip and what is wrong with it."""
    put_name(c, out, arguments, c[NAME], c[NAME_END], True, quoted, edges)
    put_text(c, out, COLON, texts, places)
    if c[PROBLEM] == SYSTEM:
        put_text(c, out, SYSTEM_TEXT + min(c[NUMBER], SYSTEM_TEXTS - 1), texts, places)
    else:
        put_filled(c, out, PROBLEM_TEXT + c[PROBLEM], texts, places)


@jit
def put_json(
    c: Array, arguments: Array, scores: Array, order: Array, count: int, limbs: Array, texts: Array, places: Array,
    edges: Array, out: Array,
) -> None:  # fmt: skip
    """A line of JSON."""
    put_text(c, out, PATH, texts, places)
    put_name(c, out, arguments, c[NAME], c[NAME_END], False, True, edges)
    put_text(c, out, START, texts, places)
    put_seconds(c, out, c[PART_START])
    put_text(c, out, STOP, texts, places)
    put_seconds(c, out, c[PART_END])
    put_text(c, out, DURATION, texts, places)
    put_seconds(c, out, c[PART_END] - c[PART_START])
    put_text(c, out, TAGS, texts, places)
    for i in range(count):
        if i:
            put_text(c, out, BETWEEN, texts, places)
        put_text(c, out, JSON_LABEL + order[i], texts, places)
        put_score(c, out, scores[order[i]], limbs)
        put_text(c, out, SCORE_END, texts, places)
    put_text(c, out, TAGS_END, texts, places)
    put_text(c, out, JSON_END, texts, places)


@jit
def put_lines(
    c: Array, settings: Array, arguments: Array, scores: Array, order: Array, count: int, limbs: Array, texts: Array,
    places: Array, edges: Array, out: Array,
) -> None:  # fmt: skip
    """A heading and the tags, or the tags of a window in one line."""
    timeline = settings[WINDOW] > 0
    if c[WINDOWS] <= 1:
        if c[WRITTEN]:
            put(c, out, 10)
        c[WRITTEN] = 1
        put_name(c, out, arguments, c[NAME], c[NAME_END], True, False, edges)
        if not timeline:
            put_text(c, out, LENGTH_START, texts, places)
            put_fixed(c, out, c[PART_END] / _RATE, 2, 0, limbs)
            put_text(c, out, LENGTH_END, texts, places)
        put_text(c, out, HEADING_END, texts, places)
    if timeline:
        put_text(c, out, BLANKS, texts, places)
        put_fixed(c, out, c[PART_START] / _RATE, 2, 8, limbs)
        put(c, out, 32)
        put_fixed(c, out, c[PART_END] / _RATE, 2, 8, limbs)
        put_text(c, out, BLANKS, texts, places)
        if not count:
            put(c, out, 45)
    elif not count:
        put_text(c, out, NO_TAG, texts, places)
    for i in range(count):
        if timeline and i:
            put_text(c, out, BETWEEN, texts, places)
        elif not timeline:
            put_text(c, out, BLANKS, texts, places)
        put_fixed(c, out, scores[order[i]], 4, 6, limbs)
        put(c, out, 32)
        if not timeline:
            put(c, out, 32)
        put_text(c, out, LABEL + order[i], texts, places)
        if not timeline:
            put(c, out, 10)
    if timeline:
        put(c, out, 10)
