"""The kernel that parses the command line: first all options, then the name of one clip after the other."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from audiotag.features.mel import DEFAULT
from audiotag.sound.audio import MAX_CHANNELS, MAX_RATE, MIN_RATE
from audiotag.sound.windows import MIN_HOP, MIN_WINDOW
from audiotag.standalone import registers as reg
from audiotag.standalone import settings as setting
from audiotag.standalone.control import DECODE, EXIT, FLOAT_32, NOTHING, OPEN, SIGNED_16, WRITE
from audiotag.standalone.decimals import put
from audiotag.standalone.features import start_of
from audiotag.standalone.records import Shared, Texts
from audiotag.standalone.texts import (
    COLON,
    HELP,
    OPTION_TEXT,
    PROGRAM,
    STANDARD_OUTPUT,
    SYSTEM_TEXT,
    SYSTEM_TEXTS,
    TRY_HELP,
    VERSION,
    WRONG_TEXT,
    put_filled,
    put_text,
)
from tinyonnx import jit, kernel

if TYPE_CHECKING:
    from tinyonnx.ir import Array

OPTIONS = ("--help", "-h", "--version", "--json", "--top", "--threshold", "--window", "--hop", "--raw", "--rate",
           "--channels", "f32le", "s16le")  # fmt: skip
(
    _HELP, _H, _VERSION, _JSON, _TOP, _THRESHOLD, _WINDOW, _HOP, _RAW, _RATE, _CHANNELS, _F32LE, _S16LE
) = range(13)  # fmt: skip

# errors of the command line
(
    _NO_OPTION, _NO_VALUE, _NO_COUNT, _NO_PROBABILITY, _NO_RATE, _NO_CHANNELS, _NO_WINDOW, _NO_HOP, _NO_RAW, _HOP_ALONE,
    _RAW_FILE, _RAW_RATE, _RATE_ALONE, _TWICE, _NOTHING,
) = range(1, 16)  # fmt: skip
_ABOUT_ONE = _NO_RAW
"""The last error that concerns the current argument, which the message names."""

WRONG = {
    _NO_OPTION: "unknown option",
    _NO_VALUE: "a value must follow",
    _NO_COUNT: "a number of at least 1 must follow",
    _NO_PROBABILITY: "a number from 0 to 1 must follow",
    _NO_RATE: f"a rate from {MIN_RATE} to {MAX_RATE} Hz must follow",
    _NO_CHANNELS: f"a number from 1 to {MAX_CHANNELS} must follow",
    _NO_WINDOW: f"seconds from {MIN_WINDOW:g} to {{}} must follow",
    _NO_HOP: f"seconds from {MIN_HOP:g} on must follow",
    _NO_RAW: "f32le or s16le must follow",
    _HOP_ALONE: "--hop needs --window",
    _RAW_FILE: "--raw reads standard input: - must be the only file",
    _RAW_RATE: "--raw needs --rate",
    _RATE_ALONE: "--rate and --channels need --raw: files contain their own rate and channels",
    _TWICE: "standard input (-) is given twice",
    _NOTHING: "no file is given",
}

# registers of the parser: position; begin and end of the current argument; whether only names follow; number of the
# option (-1: unknown); begin (-1: no value) and end of its value
_AT, _BEGIN, _END, _ONLY_NAMES, _OPTION, _VALUE, _VALUE_END, LOOK = range(8)

_NONE, _NAME, _IS_OPTION = range(3)
_FEATURES_OF_A_SECOND = DEFAULT.n_mels * DEFAULT.rate // DEFAULT.hop
_EPIPE = errno.EPIPE
_MINUS, _PLUS, _EQUALS, _POINT, _E = (ord(letter) for letter in "-+=.e")


@kernel
def arrange(
    shared: Shared, look: Array, arguments: Array, features: Array, table: Texts, out: Array, part: int, parts: int
) -> None:  # fmt: skip
    """Continue after a row: read the options in the first call, then open the next file, or exit after the last one."""
    c, settings, reals = shared.control, shared.settings, shared.reals
    texts, places = table.data, table.places
    if c[reg.STATE] == 2:
        c[reg.ACTION], c[reg.PLACE] = EXIT, c[reg.EXIT_CODE]
        return
    if c[reg.ACTION] == WRITE and c[reg.PLACE] == 1 and c[reg.RESULT] < 0:
        write_failed(c, texts, places, out)
        return
    c[reg.ACTION] = NOTHING
    if c[reg.NEXT_KERNEL]:
        c[reg.KERNEL], c[reg.NEXT_KERNEL] = c[reg.NEXT_KERNEL], 0
        return
    c[reg.COUNT] = 0
    if not c[reg.STATE]:
        c[reg.STATE] = 1
        settings[setting.TOP], reals[setting.THRESHOLD] = 10, -1.0
        wrong = check(c, settings, reals, look, arguments, features, texts, places)
        if wrong:
            refuse(c, look, arguments, wrong, texts, places, out)
        elif settings[setting.TEXT_ONLY]:
            put_text(c, out, settings[setting.TEXT_ONLY], texts, places)
            finish(c, 1, 0)
        if c[reg.STATE] == 2:
            return
        rewind(look, arguments)
    kind = advance(look, arguments, texts, places)
    while kind == _IS_OPTION:
        kind = advance(look, arguments, texts, places)
    if kind == _NONE:
        c[reg.ACTION], c[reg.PLACE] = EXIT, c[reg.ANY_FAILED]
        return
    c[reg.NAME_START], c[reg.NAME_END] = look[_BEGIN], look[_END]
    c[reg.WINDOW_COUNT] = c[reg.TAPE_SAMPLES] = c[reg.TAPE_START] = c[reg.COVERED_END] = c[reg.CLIP_SAMPLES] = c[
        reg.ERROR_REPORTED
    ] = 0
    c[reg.WARNINGS] = c[reg.WARNED] = c[reg.MIXED_FRAMES] = c[reg.LOOKS] = 0
    reals[setting.MIXED_ENERGY] = reals[setting.CHANNEL_ENERGY] = 0.0
    c[reg.ACTION], c[reg.KERNEL] = OPEN, DECODE
    c[reg.PLACE] = -1 if is_stdin(look, arguments) else c[reg.NAME_START]


@jit
def finish(c: Array, file: int, code: int) -> None:
    """Write the output, then exit."""
    c[reg.ACTION], c[reg.PLACE], c[reg.EXIT_CODE], c[reg.STATE] = WRITE, file, code, 2


@jit
def write_failed(c: Array, texts: Array, places: Array, out: Array) -> None:
    """Handle a failed write to standard output; a closed pipe is not an error."""
    if c[reg.RESULT] == -_EPIPE:
        c[reg.ACTION], c[reg.PLACE] = EXIT, 0
        return
    c[reg.COUNT] = 0
    put_text(c, out, PROGRAM, texts, places)
    put_text(c, out, STANDARD_OUTPUT, texts, places)
    put_text(c, out, SYSTEM_TEXT + min(-c[reg.RESULT], SYSTEM_TEXTS - 1), texts, places)
    put(c, out, 10)
    finish(c, 2, 1)


@jit
def refuse(c: Array, look: Array, arguments: Array, wrong: int, texts: Array, places: Array, out: Array) -> None:
    """Report an error of the command line and exit."""
    put_text(c, out, PROGRAM, texts, places)
    if wrong <= _ABOUT_ONE:
        for i in range(look[_BEGIN], look[_END]):
            # control characters could contain commands for the terminal
            put(c, out, arguments[i] if arguments[i] >= 32 and arguments[i] != 127 else 63)
        put_text(c, out, COLON, texts, places)
    put_filled(c, out, WRONG_TEXT + wrong, texts, places)
    put_text(c, out, TRY_HELP, texts, places)
    finish(c, 2, 2)


# -- the command line ---------------------------------------------------------------------


@jit
def end_of(arguments: Array, at: int) -> int:
    """End of the string that starts at a position."""
    while at < len(arguments) and arguments[at]:
        at += 1
    return at


@jit
def rewind(look: Array, arguments: Array) -> None:
    """Move to the argument after the program's name."""
    look[:] = 0
    look[_AT] = end_of(arguments, 0) + 1


@jit
def advance(look: Array, arguments: Array, texts: Array, places: Array) -> int:
    """Parse the next argument; return its kind: a name, an option, or the end of the arguments."""
    while look[_AT] < len(arguments):
        begin, end = look[_AT], end_of(arguments, look[_AT])
        look[_BEGIN], look[_END], look[_AT] = begin, end, end + 1
        if look[_ONLY_NAMES] or arguments[begin] != _MINUS or end == begin + 1:
            return _NAME
        if end == begin + 2 and arguments[begin + 1] == _MINUS:
            look[_ONLY_NAMES] = 1
            continue
        equals = begin
        while equals < end and arguments[equals] != _EQUALS:
            equals += 1
        look[_END] = equals
        look[_OPTION], look[_VALUE], look[_VALUE_END] = -1, -1, end
        for option in range(_F32LE):
            if is_text(arguments, begin, equals, OPTION_TEXT + option, texts, places):
                look[_OPTION] = option
        if equals < end:
            look[_VALUE] = equals + 1
        elif look[_OPTION] >= _TOP and look[_AT] < len(arguments):
            look[_VALUE], look[_VALUE_END] = look[_AT], end_of(arguments, look[_AT])
            look[_AT] = look[_VALUE_END] + 1
        return _IS_OPTION
    return _NONE


@jit
def is_text(data: Array, at: int, end: int, number: int, texts: Array, places: Array) -> bool:
    """Whether data[at:end] equals a text by number."""
    begin, length = places[number], places[number + 1] - places[number]
    same = 0
    while same < length and at + same < end and data[at + same] == texts[begin + same]:
        same += 1
    return bool(same == length == end - at)


@jit
def is_stdin(look: Array, arguments: Array) -> bool:
    """Whether the current argument is -, standard input."""
    return bool(look[_END] == look[_BEGIN] + 1 and arguments[look[_BEGIN]] == _MINUS)


@jit
def check(
    c: Array, settings: Array, reals: Array, look: Array, arguments: Array, features: Array, texts: Array, places: Array
) -> int:  # fmt: skip
    """Parse all options; return an error, 0 for none."""
    rewind(look, arguments)
    names, from_stdin, hop, rate = 0, 0, False, False
    settings[setting.RAW_CHANNELS] = 1
    kind = advance(look, arguments, texts, places)
    while kind != _NONE:
        if kind == _NAME:
            names += 1
            from_stdin += is_stdin(look, arguments)
        else:
            wrong = apply(c, settings, reals, look, arguments, features, texts, places)
            if wrong or settings[setting.TEXT_ONLY]:
                return wrong
            hop = hop or look[_OPTION] == _HOP
            rate = rate or look[_OPTION] in (_RATE, _CHANNELS)
        kind = advance(look, arguments, texts, places)
    if not names:
        return _NOTHING
    if from_stdin > 1:
        return _TWICE
    if hop and not settings[setting.WINDOW]:
        return _HOP_ALONE
    if not hop:
        reals[setting.HOP] = reals[setting.WINDOW_SECONDS]
    if not settings[setting.RAW_ENCODING]:
        return _RATE_ALONE if rate else 0
    if names > 1 or not from_stdin:
        return _RAW_FILE
    return 0 if settings[setting.RAW_RATE] else _RAW_RATE


@jit
def apply(
    c: Array, settings: Array, reals: Array, look: Array, arguments: Array, features: Array, texts: Array, places: Array
) -> int:  # fmt: skip
    """Apply an option; return an error, 0 for none."""
    option, begin, end = look[_OPTION], look[_VALUE], look[_VALUE_END]
    if option < 0 or (option < _TOP and begin >= 0):
        return _NO_OPTION
    if option >= _TOP and begin < 0:
        return _NO_VALUE
    if option <= _H:
        settings[setting.TEXT_ONLY] = HELP
    elif option == _VERSION:
        settings[setting.TEXT_ONLY] = VERSION
    elif option == _JSON:
        settings[setting.JSON] = 1
    elif option == _TOP:
        settings[setting.TOP] = whole_number(arguments, begin, end)
        return _NO_COUNT if settings[setting.TOP] < 1 else 0
    elif option == _RATE:
        settings[setting.RAW_RATE] = whole_number(arguments, begin, end)
        return 0 if MIN_RATE <= settings[setting.RAW_RATE] <= MAX_RATE else _NO_RATE
    elif option == _CHANNELS:
        settings[setting.RAW_CHANNELS] = whole_number(arguments, begin, end)
        return 0 if 1 <= settings[setting.RAW_CHANNELS] <= MAX_CHANNELS else _NO_CHANNELS
    elif option == _RAW:
        if is_text(arguments, begin, end, OPTION_TEXT + _F32LE, texts, places):
            settings[setting.RAW_ENCODING] = FLOAT_32
        elif is_text(arguments, begin, end, OPTION_TEXT + _S16LE, texts, places):
            settings[setting.RAW_ENCODING] = SIGNED_16
        else:
            return _NO_RAW
    else:
        return apply_real(c, settings, reals, option, real_number(arguments, begin, end), features)
    return 0


@jit
def apply_real(c: Array, settings: Array, reals: Array, option: int, value: Any, features: Array) -> int:
    """Apply an option with a real value, negative if it is not a number; return an error, 0 for none."""
    if option == _THRESHOLD:
        reals[setting.THRESHOLD] = value
        return 0 if 0 <= value <= 1 else _NO_PROBABILITY
    if option == _HOP:
        reals[setting.HOP] = value
        return 0 if value >= MIN_HOP else _NO_HOP
    most = len(features) // _FEATURES_OF_A_SECOND
    c[reg.NUMBER] = most
    reals[setting.WINDOW_SECONDS] = value
    settings[setting.WINDOW] = start_of(1, value)
    return 0 if MIN_WINDOW <= value <= most else _NO_WINDOW


@jit
def whole_number(data: Array, at: int, end: int) -> int:
    """Parse an integer of at most 15 digits; -1 if data[at:end] is none."""
    if not 0 < end - at <= 15:
        return -1
    value = 0
    for i in range(at, end):
        digit = int(data[i]) - 48
        if not 0 <= digit <= 9:
            return -1
        value = value * 10 + digit
    return value


@jit
def real_number(data: Array, at: int, end: int) -> Any:
    """Parse a real number, exactly as Python's float for up to 15 digits; -1.0 if data[at:end] is none."""
    value, digits, exponent, point = 0, 0, 0, False
    while at < end and ((data[at] == _POINT and not point) or 48 <= data[at] <= 57):
        if data[at] == _POINT:
            point = True
        else:
            digits += 1
            if value < 10**17:
                value = value * 10 + int(data[at]) - 48
                exponent -= point
            else:
                exponent += not point
        at += 1
    if digits and at < end and data[at] | 32 == _E:
        at += 1
        sign = -1 if at < end and data[at] == _MINUS else 1
        at += at < end and (data[at] == _MINUS or data[at] == _PLUS)
        power = whole_number(data, at, end)
        if power < 0:
            return -1.0
        exponent += sign * min(power, 400)
        at = end
    if not digits or at < end:
        return -1.0
    scale = 1.0
    for _ in range(abs(exponent)):
        scale *= 10.0
    return value / scale if exponent < 0 else value * scale
