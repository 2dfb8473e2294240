"""JSON Lines: one JSON object per result or failure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from audiotag.outputs.interface import Encoder

if TYPE_CHECKING:
    from audiotag.results import Failure, Result


class JsonlEncoder(Encoder):
    """One line per row: `to_dict()` of the result or failure."""

    suffixes = (".jsonl", ".ndjson", ".json")
    embeddings = "optional"

    def encode(self, row: Result | Failure) -> str:
        return json_text(row.to_dict()) + "\n"


_encode = json.JSONEncoder(ensure_ascii=False).encode


def json_text(value: Any) -> str:
    """Encode a value as JSON in one line; only characters that are not printable are escaped.

    Undecodable bytes of file names, which Python has as lone surrogates, are escaped as such, so
    that the text is valid UTF-8 and `json.loads` restores the name.
    """
    text = _encode(value)
    if text.isprintable():
        return text
    # such characters occur within strings only
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
