from __future__ import annotations

import pytest

from audiotag.crawl.read_ahead import MAX_PATHS, ReadAhead
from audiotag.errors import ManifestError
from audiotag.results import Failure
from tests.audiotag.crawl.jobs import wait_for


def take_all(ahead):
    found = []
    while not ahead.exhausted:
        found += [ahead.take().path for _ in range(ahead.waiting)]
        found += list(ahead.failures())
    return found


def test_everything_comes_in_order():
    paths = [str(number) for number in range(5 * MAX_PATHS)]
    assert take_all(ReadAhead(iter(paths))) == paths


def test_no_more_than_so_many_are_read_ahead():
    read = []

    def paths():
        for number in range(3 * MAX_PATHS):
            read.append(number)
            yield str(number)

    ahead = ReadAhead(paths())
    wait_for(lambda: ahead.waiting > MAX_PATHS, "the thread does not read")
    assert len(read) <= MAX_PATHS + 2
    assert len(take_all(ahead)) == 3 * MAX_PATHS


def test_failures_come_apart():
    failure = Failure("b", "AudioError", "no")
    ahead = ReadAhead(["a", failure, "c"])
    wait_for(lambda: ahead.complete, "the thread does not end")
    assert [ahead.take().path, ahead.take().path] == ["a", "c"]
    assert list(ahead.failures()) == [failure]
    assert ahead.exhausted


def test_an_error_comes_after_what_was_read_before_it():
    def paths():
        yield "a"
        raise ManifestError("list", "broken")

    ahead = ReadAhead(paths())
    wait_for(lambda: ahead.complete, "the thread does not end")
    assert not ahead.exhausted
    assert ahead.take().path == "a"
    with pytest.raises(ManifestError, match="broken"):
        _ = ahead.exhausted
