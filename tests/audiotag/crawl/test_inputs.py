from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiotag.crawl.inputs import FINGERPRINT, Shard, fingerprint, lists_in
from audiotag.crawl.manifests import Manifest
from audiotag.crawl.run import Files
from audiotag.errors import ManifestError
from tests.audiotag.crawl.lists import NAMES, listed


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_whose_name_begins_like_a_list(here):
    (here / "@a.wav").touch()
    assert listed("@a.wav") == ["@a.wav"]
    assert listed("@")[0].name == "@"


def test_errors_in_the_place_of_paths(here):
    (here / "empty.txt").touch()
    errors = [f"{error}" for error in listed("@empty.txt", "*.none", "gone.wav")]
    causes = ("no files in this list", "no file matches", "No such file or directory")
    assert all(cause in error for cause, error in zip(causes, errors, strict=True))


def test_a_list_that_is_gone_is_refused_at_once():
    with pytest.raises(ManifestError, match=r"gone\.txt"):
        lists_in(["@gone.txt"])


def test_counting(here):
    (here / "list.txt").write_text("a.wav\nb.wav\n")
    assert Files(lists_in(["@list.txt", "c.wav", "*.mp3"])).count() == 4
    assert Files([Manifest("-")]).count() is None


@pytest.mark.skipif(os.name == "nt", reason="needs named pipes")
def test_lists_from_pipes_are_read_once(here):
    """The shell's <(find ...) is such a pipe: counting its names would consume them."""
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


def test_in_a_list_a_dash_is_the_name_of_a_file(here):
    (here / "list.txt").write_text("-\na.wav\n")
    assert listed("@list.txt") == [os.path.join(".", "-"), "a.wav"]
    assert listed("-") == ["-"]


@pytest.mark.skipif(os.name == "nt", reason="needs named pipes")
def test_links_to_nothing_are_files_and_pipes_are_not(here):
    (here / "a").mkdir()
    (here / "a/gone.wav").symlink_to("nothing")
    os.mkfifo("a/pipe.wav")
    assert listed("a") == [os.path.join("a", "gone.wav")]


def test_folders_that_can_not_be_read(here, monkeypatch):
    """Root may read all folders: the system's answers are made up."""
    (here / "a").mkdir()

    def walk(folder, onerror):
        for error in (PermissionError(13, "Permission denied", "a/b"), OSError()):
            error.filename = "a/b"
            onerror(error)
        return iter(())

    monkeypatch.setattr(os, "walk", walk)
    found = listed("a")
    assert [(error.name, error.problem) for error in found] == [("a/b", "Permission denied"), ("a/b", "can't be read")]


def test_hidden_folders_are_left_out(here):
    for name in ("a/.hidden/b.wav", "a/c/d.wav"):
        (here / name).parent.mkdir(parents=True)
        (here / name).touch()
    assert listed("a") == [os.path.join("a", "c", "d.wav")]
