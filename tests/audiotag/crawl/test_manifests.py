"""Lists of files."""

from __future__ import annotations

import io
import json
import os
import sys
import tracemalloc

import pytest

from audiotag.crawl.inputs import expand, lists_in
from audiotag.errors import Error, ManifestError
from tests.audiotag.crawl.lists import FOUND, NAMES, listed


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines(end, here):
    (here / "list.txt").write_bytes(os.fsencode(end.join(NAMES[:3]) + end + end + end.join(NAMES[3:])))
    assert listed("@list.txt") == FOUND
    assert listed("x/../@list.txt")[0].name == "x/../@list.txt"


def test_tables(here):
    rows = [{"id": str(number), "path": name, "other": f"{number}.wav"} for number, name in enumerate(NAMES)]
    for name, separator in (("list.csv", ","), ("list.tsv", "\t")):
        lines = [separator.join(row.values()) for row in ({key: key for key in rows[0]}, *rows)]
        (here / name).write_bytes(os.fsencode("\n".join([*lines, "", "short"])))
    (here / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("list.csv", "list.tsv", "list.jsonl"):
        assert listed(f"@{name}") == FOUND
        assert listed(f"@{name}:other") == [row["other"] for row in rows]


def test_csv_as_spreadsheets_write_it(here):
    (here / "list.CSV").write_bytes('\ufeffid,path\r\n1,"a, ""b"".wav"\r\n2,"line\nbreak.wav"\r\n'.encode())
    assert listed("@list.CSV") == ['a, "b".wav', "line\nbreak.wav"]


def test_parquet(here):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    names = [name for name in NAMES if name.isprintable() or " " in name]
    parquet.write_table(pa.table({"path": [*names, None], "n": range(len(names) + 1)}), "list.parquet")
    assert listed("@list.parquet") == [os.path.join(".", "-") if name == "-" else name for name in names]
    with pytest.raises(ManifestError, match="'n' is not text"):
        listed("@list.parquet:n")
    with pytest.raises(ManifestError, match="no column 'x', but path, n"):
        listed("@list.parquet:x")
    (here / "broken.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(ManifestError, match=r"broken\.parquet: "):
        listed("@broken.parquet")


def test_parquet_without_pyarrow(here, monkeypatch):
    (here / "list.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Error, match=r"pip install 'tinyonnx\[parquet\]'"):
        listed("@list.parquet")


def test_names_that_end_with_nul(here):
    for end in ("", "\0"):
        (here / "list").write_bytes(os.fsencode("\0".join([*NAMES, "line\nbreak.wav"]) + end))
        assert listed(files0_from="list") == [*FOUND, "line\nbreak.wav"]


@pytest.mark.parametrize(("arguments", "separator"), [((("@-",), None), "\n"), (((), "-"), "\0")])
def test_standard_input(arguments, separator, monkeypatch):
    read, write = os.pipe()
    os.write(write, separator.join(["a.wav", "b.wav"]).encode())
    os.close(write)
    kept = os.dup(0)
    os.dup2(read, 0)
    try:
        monkeypatch.setattr("sys.stdin", io.StringIO())
        assert listed(*arguments[0], files0_from=arguments[1]) == ["a.wav", "b.wav"]
        monkeypatch.setattr("sys.stdin", None)
        with pytest.raises(ManifestError, match="standard input is closed"):
            listed("@-")
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(read)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("list.csv", b"id,file\n1,a.wav\n", "has no column 'path', but id, file; name one: @list.csv:COLUMN"),
        ("list.csv", b"", "has no column 'path', but none"),
        ("list.jsonl", b'{"path": "a.wav"}\n{"path": 3}\n', "line 2 has no string field 'path'"),
        ("list.jsonl", b'{"path": "a.wav"}\n[1]\n', "line 2 has no string field 'path'"),
        ("list.jsonl", b'{"path": "a.wav"}\n{"pa', "Unterminated string"),
    ],
)
def test_lists_that_are_wrong(name, content, problem, here):
    (here / name).write_bytes(content)
    with pytest.raises(ManifestError) as caught:
        listed(f"@{name}")
    assert str(caught.value).startswith(f"{name}: {problem}")


@pytest.mark.parametrize("content", [b"a.wav\nb\0c.wav\n", b"a.wav\n" + b"x" * 100_000])
def test_what_is_no_list(content, here):
    (here / "list").write_bytes(content)
    with pytest.raises(ManifestError, match="list: is not a list of paths"):
        listed("@list")
    if b"\0" not in content:
        with pytest.raises(ManifestError, match="list: is not a list of paths"):
            listed(files0_from="list")


def test_a_list_that_is_missing_is_noticed_before_the_work_begins(here):
    with pytest.raises(ManifestError, match=r"list\.txt: No such file"):
        lists_in(["a.wav", "@list.txt"])
    (here / "sub").mkdir()
    with pytest.raises(ManifestError, match="sub: Is a directory"):
        lists_in(["@sub"])


def test_long_lists_are_not_held(here):
    with open("list.txt", "w") as file:
        file.writelines(f"some/folder/{number}.wav\n" for number in range(200_000))
    tracemalloc.start()
    assert sum(1 for _ in expand(lists_in(["@list.txt"]))) == 200_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
