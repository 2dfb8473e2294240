from __future__ import annotations

import csv
import hashlib

import pytest

from audiotag import LabelError
from audiotag.labels import N_CLASSES, audioset


def test_all_classes_in_order(shared):
    with (shared / "data/audioset_labels.csv").open(newline="") as file:
        expected = [(int(row["index"]), row["mid"], row["display_name"]) for row in csv.DictReader(file)]
    assert [(x.index, x.mid, x.name) for x in audioset()] == expected


def test_the_table_is_that_of_audioset():
    """The hash of AudioSet's own table, class_labels_indices.csv: (index, mid, display_name) of each row."""
    table = [(x.index, x.mid, x.name) for x in audioset()]
    digest = hashlib.sha256(repr(table).encode()).hexdigest()
    assert digest == "50dda4484cc3a167abf1d40ea582528e6237a167508018db1f4e7cbfc5c8bef8"
    assert table[0] == (0, "/m/09x0r", "Speech")
    assert table[-1] == (526, "/m/07hvw1", "Field recording")


def test_every_class_is_found_by_name_and_mid_alone_and_in_one_list():
    known = audioset()
    assert len(known) == N_CLASSES
    for label in known:
        assert audioset().parse(label.name) == (label,)
        assert audioset().find(label.name.upper()) == label
        assert audioset().find(label.mid) == label
    assert audioset().parse(",".join(label.name for label in known)) == tuple(known)


def test_lists():
    assert [x.name for x in audioset().parse("Dog, Male speech, man speaking ,siren")] == [
        "Dog",
        "Male speech, man speaking",
        "Siren",
    ]
    assert audioset().select("Dog,Dog") == audioset().select(["Dog"]) == audioset().select([74, "/m/0bt9lr"]) == [74]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("Dogg", "'Dogg'; did you mean 'Dog'"),
        ("Dog,xqzw", "'xqzw'$"),
        ("", "is empty"),
        (",", "is empty"),
        ([], "is empty"),
        ([527], "0..526"),
    ],
)
def test_unknown_classes(wrong, message):
    with pytest.raises(LabelError, match=message):
        audioset().select(wrong)
