"""The kernel from logits, or from an error, to rows of text or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audiotag.standalone import registers as reg
from audiotag.standalone import settings as setting
from audiotag.standalone.control import (
    ANALYSE,
    ARRANGE,
    BAD_SCORES,
    CANCELLED,
    DOUBTFUL,
    ENDS_EARLY,
    GOES_ON,
    LOUD,
    MODEL,
    NO_PROGRAM,
    REPORT,
    SHORT,
    SYSTEM,
    WRITE,
)
from audiotag.standalone.decimals import put, put_fixed, put_score, put_seconds
from audiotag.standalone.records import Ranking, Shared, Texts
from audiotag.standalone.scores import rank
from audiotag.standalone.texts import (
    BETWEEN,
    BLANKS,
    CANCELS,
    COLON,
    COUNTS,
    COUNTS_END,
    DURATION,
    EARLY,
    EARLY_END,
    EARLY_MIDDLE,
    ERROR,
    ERROR_END,
    FAR_TOO_LOUD,
    HEADING_END,
    JSON_CLOSE,
    JSON_END,
    JSON_WARNING,
    LABEL,
    LENGTH_END,
    LENGTH_START,
    NO_TAG,
    ONLY,
    ONLY_END,
    PATH,
    PROBLEM_TEXT,
    PROGRAM,
    QUOTE,
    SCORE_END,
    SEMICOLON,
    START,
    STOP,
    SYSTEM_TEXT,
    SYSTEM_TEXTS,
    TAGS,
    TAGS_END,
    WARNING,
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
    shared: Shared, arguments: Array, logits: Array, ranking: Ranking, table: Texts, out: Array, part: int, parts: int
) -> None:  # fmt: skip
    """Write a row and continue with the clip, or write its error and continue with the next clip."""
    c, settings, reals = shared.control, shared.settings, shared.reals
    scores, order, limbs = ranking.scores, ranking.order, ranking.limbs
    texts, places, edges = table.data, table.places, table.edges
    c[reg.COUNT] = 0
    if c[reg.ACTION] == MODEL and c[reg.RESULT] < 0:
        c[reg.PROBLEM], c[reg.NUMBER] = NO_PROGRAM, c[reg.FRAMES]
    count = 0
    if not c[reg.PROBLEM]:
        count = rank(
            logits, shared.model[setting.PROBABILITIES], settings[setting.TOP], reals[setting.THRESHOLD], scores, order
        )
        if count < 0:
            c[reg.PROBLEM] = BAD_SCORES
    c[reg.ACTION], c[reg.KERNEL] = WRITE, ARRANGE
    if not c[reg.PROBLEM] and c[reg.WARNINGS] and not c[reg.WARNING_WRITTEN]:
        put_text(c, out, PROGRAM, texts, places)
        put_name(c, out, arguments, c[reg.NAME_START], c[reg.NAME_END], True, False, edges)
        put_text(c, out, WARNING, texts, places)
        put_warnings(c, limbs, texts, places, out)
        put(c, out, 10)
        c[reg.PLACE], c[reg.WARNING_WRITTEN], c[reg.NEXT_KERNEL] = 2, 1, REPORT
        return
    c[reg.WARNING_WRITTEN] = 0
    if c[reg.PROBLEM] and not c[reg.ERROR_REPORTED]:
        c[reg.ANY_FAILED] = 1
        put_text(c, out, PROGRAM, texts, places)
        put_problem(c, arguments, False, limbs, texts, places, edges, out)
        put(c, out, 10)
        c[reg.PLACE] = 2
        if settings[setting.JSON]:
            c[reg.ERROR_REPORTED], c[reg.NEXT_KERNEL] = 1, REPORT
        return
    c[reg.PLACE] = 1
    if c[reg.PROBLEM]:
        put_text(c, out, PATH, texts, places)
        put_name(c, out, arguments, c[reg.NAME_START], c[reg.NAME_END], False, True, edges)
        put_text(c, out, ERROR, texts, places)
        put_problem(c, arguments, True, limbs, texts, places, edges, out)
        put_text(c, out, ERROR_END, texts, places)
        return
    if settings[setting.WINDOW]:
        c[reg.NEXT_KERNEL] = ANALYSE
    if settings[setting.JSON]:
        put_json(c, arguments, ranking, count, table, out)
    else:
        put_lines(c, settings, arguments, ranking, count, table, out)
    c[reg.WARNED] |= c[reg.WARNINGS]
    c[reg.WARNINGS] = 0


@jit
def put_problem(
    c: Array, arguments: Array, quoted: bool, limbs: Array, texts: Array, places: Array, edges: Array, out: Array
) -> None:  # fmt: skip
    """Append the name of the clip and its error message."""
    put_name(c, out, arguments, c[reg.NAME_START], c[reg.NAME_END], True, quoted, edges)
    put_text(c, out, COLON, texts, places)
    if c[reg.PROBLEM] == DOUBTFUL:
        put_warnings(c, limbs, texts, places, out)
    elif c[reg.PROBLEM] == SYSTEM:
        put_text(c, out, SYSTEM_TEXT + min(c[reg.NUMBER], SYSTEM_TEXTS - 1), texts, places)
    else:
        put_filled(c, out, PROBLEM_TEXT + c[reg.PROBLEM], texts, places)


@jit
def put_warnings(c: Array, limbs: Array, texts: Array, places: Array, out: Array) -> None:
    """Append all warnings of a row."""
    left = c[reg.WARNINGS]
    if left & LOUD:
        put_text(c, out, FAR_TOO_LOUD, texts, places)
        left = separate(c, left & ~LOUD, texts, places, out)
    if left & GOES_ON:
        put_text(c, out, COUNTS, texts, places)
        put_fixed(c, out, c[reg.PROMISED_FRAMES] / c[reg.RATE], 2, 0, limbs)
        put_text(c, out, COUNTS_END, texts, places)
        left = separate(c, left & ~GOES_ON, texts, places, out)
    if left & ENDS_EARLY:
        put_text(c, out, EARLY, texts, places)
        put_fixed(c, out, c[reg.PROMISED_FRAMES] / c[reg.RATE], 2, 0, limbs)
        put_text(c, out, EARLY_MIDDLE, texts, places)
        put_fixed(c, out, c[reg.DECODED_FRAMES] / c[reg.RATE], 2, 0, limbs)
        put_text(c, out, EARLY_END, texts, places)
        left = separate(c, left & ~ENDS_EARLY, texts, places, out)
    if left & CANCELLED:
        c[reg.NUMBER] = c[reg.CANCELLED_AT]
        put_filled(c, out, CANCELS, texts, places)
        left = separate(c, left & ~CANCELLED, texts, places, out)
    if left & SHORT:
        put_text(c, out, ONLY, texts, places)
        put_fixed(c, out, (c[reg.PART_END] - c[reg.PART_START]) / _RATE, 2, 0, limbs)
        put_text(c, out, ONLY_END, texts, places)


@jit
def separate(c: Array, left: int, texts: Array, places: Array, out: Array) -> int:
    """Append the separator of warnings if some are left, and return these."""
    if left:
        put_text(c, out, SEMICOLON, texts, places)
    return left


@jit
def put_json(c: Array, arguments: Array, ranking: Ranking, count: int, table: Texts, out: Array) -> None:
    """Append a row as a line of JSON."""
    scores, order, limbs = ranking.scores, ranking.order, ranking.limbs
    texts, places, edges = table.data, table.places, table.edges
    put_text(c, out, PATH, texts, places)
    put_name(c, out, arguments, c[reg.NAME_START], c[reg.NAME_END], False, True, edges)
    put_text(c, out, START, texts, places)
    put_seconds(c, out, c[reg.PART_START])
    put_text(c, out, STOP, texts, places)
    put_seconds(c, out, c[reg.PART_END])
    put_text(c, out, DURATION, texts, places)
    put_seconds(c, out, c[reg.PART_END] - c[reg.PART_START])
    put_text(c, out, TAGS, texts, places)
    for i in range(count):
        if i:
            put_text(c, out, BETWEEN, texts, places)
        put_text(c, out, LABEL + 2 * order[i] + 1, texts, places)
        put_score(c, out, scores[order[i]], limbs)
        put_text(c, out, SCORE_END, texts, places)
    put_text(c, out, TAGS_END, texts, places)
    put_text(c, out, JSON_END, texts, places)
    if c[reg.WARNINGS]:
        put_text(c, out, JSON_WARNING, texts, places)
        put_warnings(c, limbs, texts, places, out)
        put_text(c, out, QUOTE, texts, places)
    put_text(c, out, JSON_CLOSE, texts, places)


@jit
def put_lines(
    c: Array, settings: Array, arguments: Array, ranking: Ranking, count: int, table: Texts, out: Array
) -> None:  # fmt: skip
    """Append a row as text: a heading and one line per tag, or one line for a window."""
    scores, order, limbs = ranking.scores, ranking.order, ranking.limbs
    texts, places, edges = table.data, table.places, table.edges
    timeline = settings[setting.WINDOW] > 0
    if c[reg.WINDOW_COUNT] <= 1:
        if c[reg.HEADING_WRITTEN]:
            put(c, out, 10)
        c[reg.HEADING_WRITTEN] = 1
        put_name(c, out, arguments, c[reg.NAME_START], c[reg.NAME_END], True, False, edges)
        if not timeline:
            put_text(c, out, LENGTH_START, texts, places)
            put_fixed(c, out, c[reg.PART_END] / _RATE, 2, 0, limbs)
            put_text(c, out, LENGTH_END, texts, places)
        put_text(c, out, HEADING_END, texts, places)
    if timeline:
        put_text(c, out, BLANKS, texts, places)
        put_fixed(c, out, c[reg.PART_START] / _RATE, 2, 8, limbs)
        put(c, out, 32)
        put_fixed(c, out, c[reg.PART_END] / _RATE, 2, 8, limbs)
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
        put_text(c, out, LABEL + 2 * order[i], texts, places)
        if not timeline:
            put(c, out, 10)
    if timeline:
        put(c, out, 10)
