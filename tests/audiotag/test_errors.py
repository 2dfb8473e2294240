from __future__ import annotations

import pickle

import pytest

from audiotag import errors


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 🐕.wav", "plain é 🐕.wav"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\udcff", "\\udcff"),
        ("a\u2028b\xa0c", "a\\u2028b\\xa0c"),
    ],
)
def test_printable(text, shown):
    assert errors.printable(text) == shown


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Error)]


def test_all_are_errors_of_this_package():
    assert len(KINDS) == 9


@pytest.mark.parametrize("kind", [kind for kind in KINDS if issubclass(kind, errors._AboutFile)])
def test_errors_of_files_name_them_in_one_line_and_can_be_sent(kind):
    error = kind("a\n.wav", "is empty")
    assert str(error) == "a\\n.wav: is empty"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.name, copy.problem) == (kind, "a\n.wav", "is empty")
