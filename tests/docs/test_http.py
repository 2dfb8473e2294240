"""The table of the parameters of /tag is complete."""

from __future__ import annotations

import re

import pytest

from audiotag.labels import audioset
from audiotag.serve.analysis import Query
from tests.docs.blocks import ROOT


def test_every_parameter_is_documented() -> None:
    text = (ROOT / "docs/tagging.md").read_text()
    table = text[text.index("| parameter of `/tag`") : text.index("| status |")]
    first_cells = " ".join(line.split("|")[1] for line in table.splitlines()[2:] if line.startswith("|"))
    with pytest.raises(ValueError, match="nonsense") as caught:
        Query.of({"nonsense": "1"}, audioset())
    known = re.findall(r"[a-z]+", str(caught.value).rpartition(" are ")[2])
    assert sorted(re.findall(r"`([a-z]+)`", first_cells)) == sorted(known)
