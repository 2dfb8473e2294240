from __future__ import annotations

import sys

import pytest

from audiotag.outputs import arrow
from tests.audiotag.outputs.examples import DOG


def test_types_do_not_depend_on_the_values():
    pa = pytest.importorskip("pyarrow")
    full = arrow.columns([[DOG.to_dict()], []], [None, "bad"], ["odd", None])
    empty = arrow.columns([[], []], [None, None], [None, None])
    assert [column.type for column in full.values()] == [column.type for column in empty.values()]
    assert full["tags"].type == arrow.tags_type(pa)
    assert full["tags"].to_pylist() == [[DOG.to_dict()], []]
    assert full["error"].to_pylist() == [None, "bad"]
    assert full["warning"].to_pylist() == ["odd", None]


def test_lists_without_pyarrow(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert arrow.columns([[]], [None], ["odd"]) == {"tags": [[]], "error": [None], "warning": ["odd"]}
