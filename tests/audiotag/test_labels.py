from __future__ import annotations

import csv

import pytest

from audiotag import LabelError, labels


def test_all_classes_in_order(shared):
    with (shared / "data/audioset_labels.csv").open(newline="") as file:
        expected = [(int(row["index"]), row["mid"], row["display_name"]) for row in csv.DictReader(file)]
    assert [(x.index, x.mid, x.name) for x in labels.all_labels()] == expected


def test_every_class_is_found_by_name_and_mid_alone_and_in_one_list():
    known = labels.all_labels()
    assert len(known) == labels.N_CLASSES
    for label in known:
        assert labels.parse(label.name) == (label,)
        assert labels.find(label.name.upper()) == label
        assert labels.find(label.mid) == label
    assert labels.parse(",".join(label.name for label in known)) == known


def test_lists():
    assert [x.name for x in labels.parse("Dog, Male speech, man speaking ,siren")] == [
        "Dog",
        "Male speech, man speaking",
        "Siren",
    ]
    assert labels.select("Dog,Dog") == labels.select(["Dog"]) == labels.select([74, "/m/0bt9lr"]) == [74]


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
        labels.select(wrong)
