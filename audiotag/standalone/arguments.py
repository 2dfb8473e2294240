"""The kernel that reads the command line: first all options, then one clip's name after the other."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from audiotag.features.mel import DEFAULT
from audiotag.sound.audio import MAX_CHANNELS, MAX_RATE, MIN_RATE
from audiotag.sound.windows import MIN_HOP, MIN_WINDOW
from audiotag.standalone.control import (
    ACTION,
    CHECKED,
    CODE,
    COUNT,
    COVERED,
    DECODE,
    EXIT,
    FAILED,
    FLOAT_32,
    HEARD,
    HOP,
    JSON,
    KERNEL,
    NAME,
    NAME_END,
    NEXT,
    NOTHING,
    NUMBER,
    OPEN,
    PLACE,
    RAW_CHANNELS,
    RAW_ENCODING,
    RAW_RATE,
    RESULT,
    SECOND,
    SIGNED_16,
    TAPE_START,
    TAPED,
    TEXT_ONLY,
    THRESHOLD,
    TOP,
    WINDOW,
    WINDOW_SECONDS,
    WINDOWS,
    WRITE,
)
from audiotag.standalone.decimals import put
from audiotag.standalone.features import start_of
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

# what can be wrong
(
    _NO_OPTION, _NO_VALUE, _NO_COUNT, _NO_PROBABILITY, _NO_RATE, _NO_CHANNELS, _NO_WINDOW, _NO_HOP, _NO_RAW, _HOP_ALONE,
    _RAW_FILE, _RAW_RATE, _RATE_ALONE, _TWICE, _NOTHING,
) = range(1, 16)  # fmt: skip
_ABOUT_ONE = _NO_RAW
"""The last of those that are wrong with the argument that was looked at."""

WRONG = {
    _NO_OPTION: "there is no such option",
    _NO_VALUE: "a value must follow",
    _NO_COUNT: "a number of at least 1 must follow",
    _NO_PROBABILITY: "a number from 0 to 1 must follow",
    _NO_RATE: f"a rate from {MIN_RATE} to {MAX_RATE} Hz must follow",
    _NO_CHANNELS: f"a number from 1 to {MAX_CHANNELS} must follow",
    _NO_WINDOW: f"seconds from {MIN_WINDOW:g} to {{}} must follow",
    _NO_HOP: f"seconds from {MIN_HOP:g} on must follow",
    _NO_RAW: "f32le or s16le must follow",
    _HOP_ALONE: "--hop needs --window",
    _RAW_FILE: "--raw reads standard input: give - as the only file",
    _RAW_RATE: "--raw needs --rate",
    _RATE_ALONE: "--rate and --channels describe --raw samples: a file says its own",
    _TWICE: "standard input (-) can be read once only",
    _NOTHING: "no file is named",
}

# registers of a look at the command line: where it is; where the present argument begins and ends; whether only names
# follow; the option and where its value begins (-1: nowhere) and ends
_AT, _BEGIN, _END, _ONLY_NAMES, _OPTION, _VALUE, _VALUE_END, LOOK = range(8)

_NONE, _NAME, _IS_OPTION = range(3)
_FEATURES_OF_A_SECOND = DEFAULT.n_mels * DEFAULT.sample_rate // DEFAULT.hop_length
_EPIPE = errno.EPIPE
_MINUS, _PLUS, _EQUALS, _POINT, _E = (ord(letter) for letter in "-+=.e")


@kernel
def arrange(
    c: Array, settings: Array, reals: Array, look: Array, arguments: Array, features: Array, texts: Array,
    places: Array, out: Array, part: int, parts: int,
) -> None:  # fmt: skip
    """Go on after a row; when called first, read the options; open the next file or, after the last one, exit."""
    if c[CHECKED] == 2:
        c[ACTION], c[PLACE] = EXIT, c[CODE]
        return
    if c[ACTION] == WRITE and c[PLACE] == 1 and c[RESULT] < 0:
        write_failed(c, texts, places, out)
        return
    c[ACTION] = NOTHING
    if c[NEXT]:
        c[KERNEL], c[NEXT] = c[NEXT], 0
        return
    c[COUNT] = 0
    if not c[CHECKED]:
        c[CHECKED] = 1
        settings[TOP], reals[THRESHOLD] = 10, -1.0
        wrong = check(c, settings, reals, look, arguments, features, texts, places)
        if wrong:
            refuse(c, look, arguments, wrong, texts, places, out)
        elif settings[TEXT_ONLY]:
            put_text(c, out, settings[TEXT_ONLY], texts, places)
            finish(c, 1, 0)
        if c[CHECKED] == 2:
            return
        rewind(look, arguments)
    kind = advance(look, arguments, texts, places)
    while kind == _IS_OPTION:
        kind = advance(look, arguments, texts, places)
    if kind == _NONE:
        c[ACTION], c[PLACE] = EXIT, c[FAILED]
        return
    c[NAME], c[NAME_END] = look[_BEGIN], look[_END]
    c[WINDOWS] = c[TAPED] = c[TAPE_START] = c[COVERED] = c[HEARD] = c[SECOND] = 0
    c[ACTION], c[KERNEL] = OPEN, DECODE
    c[PLACE] = -1 if is_stdin(look, arguments) else c[NAME]


@jit
def finish(c: Array, file: int, code: int) -> None:
    """Write what there is, then exit."""
    c[ACTION], c[PLACE], c[CODE], c[CHECKED] = WRITE, file, code, 2


@jit
def write_failed(c: Array, texts: Array, places: Array, out: Array) -> None:
    """Standard output takes no more: a reader that has gone has what it wanted."""
    if c[RESULT] == -_EPIPE:
        c[ACTION], c[PLACE] = EXIT, 0
        return
    c[COUNT] = 0
    put_text(c, out, PROGRAM, texts, places)
    put_text(c, out, STANDARD_OUTPUT, texts, places)
    put_text(c, out, SYSTEM_TEXT + min(-c[RESULT], SYSTEM_TEXTS - 1), texts, places)
    put(c, out, 10)
    finish(c, 2, 1)


@jit
def refuse(c: Array, look: Array, arguments: Array, wrong: int, texts: Array, places: Array, out: Array) -> None:
    """Say what is wrong with the command line."""
    put_text(c, out, PROGRAM, texts, places)
    if wrong <= _ABOUT_ONE:
        for i in range(look[_BEGIN], look[_END]):
            # a terminal takes control characters for commands
            put(c, out, arguments[i] if arguments[i] >= 32 and arguments[i] != 127 else 63)
        put_text(c, out, COLON, texts, places)
    put_filled(c, out, WRONG_TEXT + wrong, texts, places)
    put_text(c, out, TRY_HELP, texts, places)
    finish(c, 2, 2)


# -- the command line ---------------------------------------------------------------------


@jit
def end_of(arguments: Array, at: int) -> int:
    """Where a string ends."""
    while at < len(arguments) and arguments[at]:
        at += 1
    return at


@jit
def rewind(look: Array, arguments: Array) -> None:
    """Begin after the program's name."""
    look[:] = 0
    look[_AT] = end_of(arguments, 0) + 1


@jit
def advance(look: Array, arguments: Array, texts: Array, places: Array) -> int:
    """Look at the next argument: none, a name or an option, with its value."""
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
    """Whether data[at:end] is that text."""
    begin, length = places[number], places[number + 1] - places[number]
    same = 0
    while same < length and at + same < end and data[at + same] == texts[begin + same]:
        same += 1
    return bool(same == length == end - at)


@jit
def is_stdin(look: Array, arguments: Array) -> bool:
    """Whether a name is that of standard input."""
    return bool(look[_END] == look[_BEGIN] + 1 and arguments[look[_BEGIN]] == _MINUS)


@jit
def check(
    c: Array, settings: Array, reals: Array, look: Array, arguments: Array, features: Array, texts: Array, places: Array
) -> int:  # fmt: skip
    """Read all options; what is wrong with them, 0 if nothing is."""
    rewind(look, arguments)
    names, from_stdin, hop, rate = 0, 0, False, False
    settings[RAW_CHANNELS] = 1
    kind = advance(look, arguments, texts, places)
    while kind != _NONE:
        if kind == _NAME:
            names += 1
            from_stdin += is_stdin(look, arguments)
        else:
            wrong = apply(c, settings, reals, look, arguments, features, texts, places)
            if wrong or settings[TEXT_ONLY]:
                return wrong
            hop = hop or look[_OPTION] == _HOP
            rate = rate or look[_OPTION] in (_RATE, _CHANNELS)
        kind = advance(look, arguments, texts, places)
    if not names:
        return _NOTHING
    if from_stdin > 1:
        return _TWICE
    if hop and not settings[WINDOW]:
        return _HOP_ALONE
    if not hop:
        reals[HOP] = reals[WINDOW_SECONDS]
    if not settings[RAW_ENCODING]:
        return _RATE_ALONE if rate else 0
    if names > 1 or not from_stdin:
        return _RAW_FILE
    return 0 if settings[RAW_RATE] else _RAW_RATE


@jit
def apply(
    c: Array, settings: Array, reals: Array, look: Array, arguments: Array, features: Array, texts: Array, places: Array
) -> int:  # fmt: skip
    """Take an option; what is wrong with it, 0 if nothing is."""
    option, begin, end = look[_OPTION], look[_VALUE], look[_VALUE_END]
    if option < 0 or (option < _TOP and begin >= 0):
        return _NO_OPTION
    if option >= _TOP and begin < 0:
        return _NO_VALUE
    if option <= _H:
        settings[TEXT_ONLY] = HELP
    elif option == _VERSION:
        settings[TEXT_ONLY] = VERSION
    elif option == _JSON:
        settings[JSON] = 1
    elif option == _TOP:
        settings[TOP] = whole_number(arguments, begin, end)
        return _NO_COUNT if settings[TOP] < 1 else 0
    elif option == _RATE:
        settings[RAW_RATE] = whole_number(arguments, begin, end)
        return 0 if MIN_RATE <= settings[RAW_RATE] <= MAX_RATE else _NO_RATE
    elif option == _CHANNELS:
        settings[RAW_CHANNELS] = whole_number(arguments, begin, end)
        return 0 if 1 <= settings[RAW_CHANNELS] <= MAX_CHANNELS else _NO_CHANNELS
    elif option == _RAW:
        if is_text(arguments, begin, end, OPTION_TEXT + _F32LE, texts, places):
            settings[RAW_ENCODING] = FLOAT_32
        elif is_text(arguments, begin, end, OPTION_TEXT + _S16LE, texts, places):
            settings[RAW_ENCODING] = SIGNED_16
        else:
            return _NO_RAW
    else:
        return apply_real(c, settings, reals, option, real_number(arguments, begin, end), features)
    return 0


@jit
def apply_real(c: Array, settings: Array, reals: Array, option: int, value: Any, features: Array) -> int:
    """Take an option whose value is a real number, negative if it is none."""
    if option == _THRESHOLD:
        reals[THRESHOLD] = value
        return 0 if 0 <= value <= 1 else _NO_PROBABILITY
    if option == _HOP:
        reals[HOP] = value
        return 0 if value >= MIN_HOP else _NO_HOP
    most = len(features) // _FEATURES_OF_A_SECOND
    c[NUMBER] = most
    reals[WINDOW_SECONDS] = value
    settings[WINDOW] = start_of(1, value)
    return 0 if MIN_WINDOW <= value <= most else _NO_WINDOW


@jit
def whole_number(data: Array, at: int, end: int) -> int:
    """The number that data[at:end] is; -1 if it is none, or has more than 15 digits."""
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
    """The number that data[at:end] is, as Python's float reads up to 15 digits, then nearly; -1.0 if it is none."""
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
