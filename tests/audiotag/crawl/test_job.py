"""The work on one clip, with a tagger that needs no model."""

from __future__ import annotations

import gc
import io
import json
import pickle
import sys

import pytest

from audiotag.crawl.job import EncodedRows, End, Job, resume_collection, rows_of
from audiotag.errors import AudioError
from audiotag.options import TagOptions
from audiotag.results import Failure, Result


class Tagger:
    """Gives rows, then perhaps an error."""

    def __init__(self, rows, error=None):
        self.found, self.error, self.asked = rows, error, []

    def rows(self, source, options, name):
        self.asked.append((source, options, name))
        yield from self.found
        if self.error is not None:
            raise self.error


def result(path, end):
    return Result(path, 0.0, end, end, (), "model", "00ff", True)


def job_of(tagger, format="jsonl"):
    job = Job("model", 1, TagOptions(), format)
    vars(job)["tagger"] = tagger
    return job


def test_rows_then_the_end():
    rows = [result("a", 2.0), result("a", 4.0)]
    *events, end = job_of(Tagger(rows)).events("a")
    assert [event.result for event in events] == rows
    assert all(isinstance(event, EncodedRows) for event in events)
    assert [json.loads(event.data) for event in events] == [row.to_dict() for row in rows]
    assert end == End("a", None, 4.0)


@pytest.mark.parametrize("error", [AudioError("a", "bad"), RuntimeError("odd")])
def test_an_error_ends_the_clip_after_its_rows(error):
    first, end = job_of(Tagger([result("a", 2.0)], error)).events("a")
    assert first.result == result("a", 2.0)
    assert end == End("a", Failure("a", type(error).__name__, str(error)), 2.0)


def test_standard_input_has_a_name(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    tagger = Tagger([])
    assert list(rows_of(tagger, "-", TagOptions(top=3))) == []
    assert tagger.asked == [(sys.stdin.buffer, TagOptions(top=3), "-")]
    monkeypatch.setattr(sys, "stdin", None)
    assert list(rows_of(tagger, "-", TagOptions())) == [Failure("-", "AudioError", "-: standard input is closed")]


def test_rows_of_formats_that_are_no_text_are_pickled():
    event, _ = job_of(Tagger([result("a", 2.0)]), "parquet").events("a")
    assert pickle.loads(event.data) == result("a", 2.0)


def test_undecodable_names_can_be_encoded():
    event, _ = job_of(Tagger([result("ü\udcff\ud800", 2.0)]), "csv").events("ü\udcff\ud800")
    assert event.data.startswith(b"\xc3\xbc\xff\\ud800,")


def test_a_job_is_sent_without_its_tagger():
    job = job_of(Tagger([]))
    copy = pickle.loads(pickle.dumps(job))
    assert "tagger" not in vars(copy)
    assert (copy.options, copy.format, copy._arguments) == (job.options, job.format, job._arguments)


def test_collection_is_resumed_once():
    gc.disable()
    try:
        resume_collection()
        assert gc.isenabled()
        frozen = gc.get_freeze_count()
        assert frozen > 1000
        later = [[] for _ in range(frozen)]
        resume_collection()
        # frozen objects may have died since
        assert gc.get_freeze_count() < frozen + len(later)
    finally:
        gc.enable()
        gc.unfreeze()
