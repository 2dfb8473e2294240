from __future__ import annotations

import ctypes
import io
import json
import os

import numpy as np
import pytest
import soundfile

from audiotag import Tagger
from audiotag.errors import printable
from audiotag.options import TagOptions
from audiotag.outputs.jsonl import JsonlEncoder
from audiotag.outputs.text import TextEncoder
from audiotag.results import Failure
from audiotag.standalone.source import NAME, Facts
from tests.audiotag.conftest import make_tagger
from tests.audiotag.standalone.front import PLENTY, FrontEnd, front_end

SECONDS = 20


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    return Tagger(make_tagger(tmp_path_factory.mktemp("model") / "mn é {}.onnx"))


@pytest.fixture(scope="module")
def program(tagger):
    return FrontEnd(Facts(tagger.model.name, tagger.model.sha256, tagger.model.trained), SECONDS)


@pytest.fixture
def scorer(tagger):
    return lambda features: tagger.network(features)[0]


@pytest.fixture
def run(program, scorer):
    def run(*arguments, stdin=b"", model=scorer, piece=1 << 16):
        written = {1: b"", 2: b""}

        def write(file, data):
            written[file] += data

        argv = [b"./program", *(os.fsencode(argument) for argument in arguments)]
        return program.run(argv, model, io.BytesIO(stdin), write, piece), written[1].decode(), written[2].decode()

    return run


def rows(encoder, found):
    return "".join(encoder.encode(row) for row in found)


def encoded(samples, rate=32000, subtype="PCM_16"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=subtype)
    return file.getvalue()


def noise(n, channels=1):
    return np.random.default_rng(n).standard_normal((n, channels)) * 0.1


NAMES = ["a.wav", "ä ö €.wav", "two\nlines\t\x01.wav", 'quo"te\\.wav', "emoji \U0001f415.wav", b"bytes \xff\xc3.wav",
         "\u2028\x7f\xa0\u0378.wav"]  # fmt: skip


@pytest.mark.parametrize("n", [1, 2, 3, 500, 32000, 100_001])
@pytest.mark.parametrize("piece", [777, 1 << 16])
def test_rows_are_the_package_s(run, tagger, tmp_path, monkeypatch, n, piece):
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(map(os.fsdecode, NAMES)):
        content = encoded(noise(n + i, 1 + i % 3))
        with open(name, "wb") as file:
            file.write(content)
    names = list(map(os.fsdecode, NAMES))
    found = [tagger.tag(name) for name in names]
    text, encoder = run(*names, piece=piece), TextEncoder(TagOptions())
    # the first heading of a file is preceded by nothing
    said = "".join(f"{NAME}: {printable(row.path)}: warning: {row.warning}\n" for row in found if row.warning)
    assert text == (0, rows(encoder, found).removeprefix("\n"), said)
    assert run(*names, "--json", piece=piece) == (0, rows(JsonlEncoder(TagOptions()), found), said)


@pytest.mark.parametrize("options", [(3, None), (527, None), (10, 0.6), (1000, 0.0), (5, 1.0)])
def test_top_and_threshold(run, tagger, options):
    top, threshold = options
    content = encoded(noise(40_000))
    found = [tagger.tag(content, top=top, threshold=threshold, name="-")]
    arguments = ["--top", str(top), *([] if threshold is None else [f"--threshold={threshold}"]), "-"]
    assert run(*arguments, stdin=content)[1] == rows(TextEncoder(TagOptions()), found).removeprefix("\n")
    assert run("--json", *arguments, stdin=content)[1] == rows(JsonlEncoder(TagOptions()), found)


GRIDS = [(1.0, None), (1.0, 0.5), (0.31, 0.07), (0.02, 0.31), (20.0, None), (0.7, 3.3), (1 / 3, 0.1001), (2.0, 1e300)]


@pytest.mark.parametrize(("window", "hop"), GRIDS)
@pytest.mark.parametrize("n", [1, 600, 32000, 100_001, 32000 * 25])
@pytest.mark.parametrize("piece", [3333, 1 << 16])
def test_windows_are_the_package_s(run, tagger, window, hop, n, piece):
    content = encoded(noise(n))
    options = ["--window", str(window), *([] if hop is None else ["--hop", str(hop)]), "--top=2", "-"]
    found = list(tagger.tag_windows(content, window, hop, top=2, name="-"))
    assert run(*options, "--json", stdin=content, piece=piece)[1] == rows(JsonlEncoder(TagOptions()), found)
    timeline = TextEncoder(TagOptions(window=window))
    assert run(*options, stdin=content, piece=piece)[1] == rows(timeline, found).removeprefix("\n")


def test_samples_without_a_header(run, tagger):
    samples = noise(50_000, 2).astype("<f4")
    arguments = "-", "--raw", "f32le", "--rate", "32000", "--channels=2", "--json"
    expected = tagger.tag(samples, 32000, name="-")
    assert run(*arguments, stdin=samples.tobytes())[1] == rows(JsonlEncoder(TagOptions()), [expected])
    code, out, err = run(*arguments, stdin=samples.tobytes()[:-3])
    assert code == 1
    message = f"-: {50_000 * 8 - 3} bytes are not a whole number of 8-byte frames: another --raw or --channels?"
    assert json.loads(out) == Failure("-", "AudioError", message).to_dict()
    assert err == f"{NAME}: {message}\n"


def test_a_bad_file_is_said_and_the_others_are_done(run, tmp_path):
    (tmp_path / "bad.wav").write_bytes(encoded(noise(9))[:30])
    (tmp_path / "loud.wav").write_bytes(encoded(np.full(9, np.nan), 44100, "FLOAT"))
    (tmp_path / "good.wav").write_bytes(encoded(noise(32000)))
    paths = [str(tmp_path / name) for name in ("bad.wav", "loud.wav", "none\n.wav", "good.wav")]
    code, out, err = run(*paths, str(tmp_path), "--json")
    assert code == 1
    failures = [json.loads(line) for line in out.splitlines()]
    assert [row["path"] for row in failures] == [*paths, str(tmp_path)]
    assert err == "".join(f"{NAME}: {row['error']['message']}\n" for row in failures if "error" in row)
    assert err.count("\n") == 4
    assert "none\\n.wav: No such file or directory" in err
    assert "Is a directory" in err
    assert run(*paths)[1].count("\n") == 11


def test_the_longest_name_is_said_whole(run):
    name = b"\xff" * (131071 - len("a.wav")) + b"a.wav"
    code, out, err = run("--json", name)
    row = json.loads(out)
    assert (code, os.fsencode(row["path"])) == (1, name)
    assert err == f"{NAME}: {row['error']['message']}\n"


def test_a_model_that_fails(run):
    content = encoded(noise(9))
    code, out, err = run("-", stdin=content, model=lambda _: np.full(527, np.nan))
    assert (code, out) == (1, "")
    assert "NaN or infinite scores" in err


def test_too_long_for_one_piece_but_not_for_windows(run):
    content = encoded(noise(32000 * (SECONDS + 1)))
    code, out, err = run("-", stdin=content)
    assert (code, out) == (1, "")
    assert f"longer than {SECONDS / 60:g} min: too long for one result, use windows (--window)" in err
    assert run("-", "--window", "5", stdin=content)[0] == 0
    assert run("-", stdin=encoded(noise(32000 * SECONDS)))[0] == 0


def test_memory_that_is_not_there(program, run):
    content = encoded(noise(32000 * 5))
    try:
        for options, memory in (([], 1000), ([], 1_000_000), (["--window", "3"], 1_000_000)):
            program.memory, program.needed = memory, 2_000_000
            code, out, err = run("-", "--json", *options, stdin=content)
            assert code == 1
            assert "needs " in json.loads(out)["error"]["message"]
            needed = int(err.removeprefix(f"{NAME}: -: needs ").removesuffix(" MiB of memory\n"))
            program.memory = needed << 20
            assert run("-", *options, stdin=content)[0] == 0
    finally:
        program.memory, program.needed = PLENTY, 1000


WRONG = [
    ([], "no file is given"), (["--json"], "no file is given"), (["-x", "a"], "-x: unknown option"),
    (["a", "--top"], "--top: a value"), (["a", "--top", "0"], "at least 1"), (["a", "--top", "1e3"], "at least 1"),
    (["a", "--top="], "--top: "), (["a", "--json=1"], "unknown option"), (["a", "--threshold", "1.01"], "from 0 to 1"),
    (["a", "--threshold", "nan"], "from 0 to 1"), (["a", "--threshold", "-1"], "from 0 to 1"),
    (["a", "--window", "21"], "from 0.02 to 20"), (["a", "--window", "0.01"], "from 0.02 to 20"),
    (["a", "--hop", "1"], "--hop needs --window"), (["a", "--window=1", "--hop=0"], "from 0.01 on"),
    (["a", "--window=1", "--hop=1e400"], "--hop: seconds from 0.01 on"),
    (["-", "--raw", "s24le"], "f32le or s16le"), (["-", "--raw", "s16le"], "--raw needs --rate"),
    (["-", "--raw", "s16le", "--rate", "999"], "1000 to 1000000"), (["a", "--rate", "8000"], "need --raw"),
    (["-", "--channels", "1025", "--raw", "s16le"], "from 1 to 1024"), (["a", "--channels", "2"], "need --raw"),
    (["a", "--raw", "s16le", "--rate", "8000"], "must be the only file"), (["-", "-"], "given twice"),
    (["-", "a", "--raw", "s16le", "--rate", "8000"], "must be the only file"), (["a", "--\x1b[2J"], "--?[2J: "),
]  # fmt: skip


NUMBERS = ["0", "1", ".5", "1.", "0.3333333333333333", "1e-3", "5E-1", "2.5e-2", "1e+0", "0.12345678901234567890123",
           "1e-999", "000000000000000000000.25", "10000000000000000000000e-23", "0e999"]  # fmt: skip
NO_NUMBERS = ["", ".", "e5", "1e", "1e-", "1 ", "-1", "0x1", "1e5.0", "1..2", "1e5e5", "nan", "1e999", "1e309"]


@pytest.mark.parametrize("text", [*NUMBERS, *NO_NUMBERS])
def test_numbers_are_read_as_python_reads_them(text):
    function = front_end().library.real_number
    function.restype = ctypes.c_double
    value = function(text.encode())
    assert value == pytest.approx(float(text), rel=4e-16, abs=0) if text in NUMBERS else value == -1


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_usage(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith(f"{NAME}: ")
    assert err.endswith("(--help says more)\n")


def test_help_and_version(run, tagger):
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for option in ("--top", "--threshold", "--window", "--hop", "--json", "--raw", "--rate", "--channels", "--version"):
        assert option in out
    assert run("a", "-h") == (code, out, err)
    code, out, err = run("--version")
    assert tagger.model.name in out
    assert tagger.model.sha256 in out


def test_names_that_look_like_options(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "--json").write_bytes(encoded(noise(9)))
    code, out, _ = run("--", "--json")
    assert (code, out.split()[0]) == (0, "--json")


@pytest.mark.parametrize(("number", "code"), [(32, 0), (28, 1)])
def test_standard_output_that_takes_no_more(program, scorer, number, code):
    said = []

    def write(file, data):
        if file == 1:
            raise OSError(number, "")
        said.append(data)

    for arguments in (["-", "--window", "0.5"], ["-", "--json"], ["-"]):
        said.clear()
        argv = [b"program", *map(str.encode, arguments)]
        assert program.run(argv, scorer, io.BytesIO(encoded(noise(99_999))), write) == code
        assert said == ([] if code == 0 else [f"{NAME}: standard output: No space left on device\n".encode()])


def arrays_in(value):
    """Return all arrays of nested tuples."""
    if isinstance(value, np.ndarray):
        return [value]
    return [array for item in value for array in arrays_in(item)] if isinstance(value, tuple) else []


def test_all_arrays_lie_in_the_two_blocks(program):
    program = program.program
    blocks = [program.memory, program.constants]
    found = [array for _, arguments in program.kernels for array in arrays_in(arguments)]
    assert len(found) > 25
    for array in found:
        assert not len(array) or any(np.shares_memory(array, block) for block in blocks)
    assert program.memory.ctypes.data % 64 == program.constants.ctypes.data % 64 == 0
