from __future__ import annotations

import io
import json
import os
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiotag.crawl.inputs import FINGERPRINT, Shard, expand, fingerprint, lists_in
from audiotag.crawl.manifests import Manifest
from audiotag.crawl.run import Files
from audiotag.errors import Error, ManifestError

NAMES = ["a.wav", "sub/b c.wav", "[x]*.wav", "-", "ü.wav", "odd\udcff.wav", "@f.wav", " space .wav"]
FOUND = [os.path.join(".", "-") if name == "-" else name for name in NAMES]


def listed(*paths, files0_from=None):
    return list(expand(lists_in(paths, files0_from)))


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


def test_a_file_whose_name_begins_like_a_list(here):
    (here / "@a.wav").touch()
    assert listed("@a.wav") == ["@a.wav"]
    assert listed("@")[0].name == "@"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("list.csv", b"id,file\n1,a.wav\n", "has no column 'path', but id, file; name one: @list.csv:COLUMN"),
        ("list.csv", b"", "has no column 'path', but none"),
        ("list.jsonl", b'{"path": "a.wav"}\n{"path": 3}\n', "line 2 has no 'path'"),
        ("list.jsonl", b'{"path": "a.wav"}\n[1]\n', "line 2 has no 'path'"),
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
    with pytest.raises(ManifestError, match="list: is no list of paths"):
        listed("@list")
    if b"\0" not in content:
        with pytest.raises(ManifestError, match="list: is no list of paths"):
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


def test_counting(here):
    (here / "list.txt").write_text("a.wav\nb.wav\n")
    assert Files(lists_in(["@list.txt", "c.wav", "*.mp3"])).count() == 4
    assert Files([Manifest("-")]).count() is None


@pytest.mark.skipif(os.name == "nt", reason="needs named pipes")
def test_lists_from_pipes_are_read_once(here):
    """The shell's <(find ...) is one: whoever counted its names would take them away."""
    os.mkfifo("pipe")
    writer = os.open("pipe", os.O_RDWR)
    assert not Files(lists_in(["a.wav", "@pipe"])).repeatable
    assert Files(lists_in([], "pipe")).count() is None
    os.close(writer)


def test_patterns_for_folders_and_what_is_in_them(here):
    for name in ("a/b/c.wav", "a/b/.hidden.wav", "a/b/text.txt", "a/d.wav", "a/b/e/f.wav", "g.wav"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).touch()
    (here / "link").symlink_to("a")
    within = [os.path.join("a", *name.split()) for name in ("d.wav", "b c.wav", "b e f.wav")]
    assert listed("a/**") == [os.path.join("a", "", name[2:]) for name in within]
    assert listed("a/*") == [within[1], within[2], within[0]]
    assert listed("**") == [*within, "g.wav"]


PATHS = st.lists(st.text(st.characters(codec="utf-8")) | st.sampled_from(NAMES), max_size=50)


@given(PATHS, st.integers(1, 9))
def test_shards_share_out_any_paths(paths, count):
    parts = [[path for path in paths if path in Shard(number, count)] for number in range(1, count + 1)]
    assert sorted(path for part in parts for path in part) == sorted(paths)


def test_shards_are_the_same_on_every_machine_and_about_equal():
    # printf a.wav | b2sum -l 96, of which the remainder by 3
    shards = {"a.wav": 2, "b.wav": 1, "clips/ü.wav": 1, "odd\udcff": 3}
    assert all((path in Shard(number, 3)) == (shards[path] == number) for path in shards for number in (1, 2, 3))
    paths = [f"clips/{number}.wav" for number in range(10_000)]
    sizes = [sum(path in Shard(number, 8) for path in paths) for number in range(1, 9)]
    assert max(sizes) < 1.1 * min(sizes)


def test_shards_of_paths_that_mean_nothing(here):
    found = [file.path for number in (1, 2, 3) for file in Files(["a*.wav", "b*.wav"], Shard(number, 3))]
    assert sorted(found) == ["a*.wav", "b*.wav"]


def test_fingerprints():
    assert len({fingerprint(name) for name in NAMES}) == len(NAMES)
    assert {len(fingerprint(name)) for name in NAMES} == {FINGERPRINT}
