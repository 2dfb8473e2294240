"""Each option is declared once: the declaration reaches the command line, the journal, and the tagger."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pickle
from pathlib import Path

import pytest

from audiotag import cli
from audiotag.commands import tag
from audiotag.options import Flag, TagOptions, flags

VALUES = {
    "precision": ("bfloat16", "bfloat16"),
    "top": ("3", 3),
    "threshold": ("0.25", 0.25),
    "labels": ("Dog,Speech", (74, 0)),
    "channel": ("left", "left"),
    "embeddings": (None, True),
    "window": ("2", 2.0),
    "hop": ("0.5", 0.5),
}
COMPOSED = {"events", "raw"}


def options(*arguments):
    parsed = cli.make_parser(("tag",)).parse_args(["tag", "a.wav", "--format", "jsonl", *arguments])
    return tag._options(parsed)


def test_every_field_is_a_flag_or_composed():
    assert {name for name, _ in flags()} == set(VALUES)
    assert {field.name for field in dataclasses.fields(TagOptions)} == set(VALUES) | COMPOSED


def test_defaults():
    assert options() == TagOptions()


@pytest.mark.parametrize("name", VALUES)
def test_a_flag_reaches_the_options(name):
    text, value = VALUES[name]
    more = ["--window", "2"] if name == "hop" else []
    flag = dict(flags())[name].name
    assert getattr(options(flag, *([] if text is None else [text]), *more), name) == value


def test_the_value_of_a_flag_is_stored_under_the_name_of_its_field():
    parser = argparse.ArgumentParser()
    Flag("--worst-first", None, None, "a switch", "tags").add_to(parser, "worst")
    Flag("--at-most", int, "N", "a number", "tags").add_to(parser, "most")
    assert vars(parser.parse_args(["--worst-first", "--at-most", "3"])) == {"worst": True, "most": 3}


def test_options_are_sent_to_workers_and_recorded():
    given = options("--events", "Dog=0.5", "--min-event", "1", "--precision", "bfloat16")
    assert pickle.loads(pickle.dumps(given)) == given
    recorded = json.loads(json.dumps(given.to_dict()))
    assert set(recorded) == {field.name for field in dataclasses.fields(TagOptions)}
    assert recorded["events"]["min_duration"] == 1.0
    assert "precision" not in options().to_dict()


def test_every_flag_is_documented():
    docs = Path(__file__).resolve().parents[2] / "docs"
    text = "".join(path.read_text(encoding="utf-8") for path in docs.glob("*.md"))
    missing = [flag.name for _, flag in flags() if flag.name not in text]
    assert missing == []
