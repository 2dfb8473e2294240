"""The numbers that kernels and the C front end share."""

from __future__ import annotations

import re
from pathlib import Path

from audiotag.standalone import registers, source


def test_registers_are_numbered_one_by_one_and_documented():
    text = Path(registers.__file__).read_text(encoding="utf-8")
    for counter, total in (("_integers", "INTEGERS"), ("_reals", "REALS")):
        names = re.findall(rf"^(\w+) = next\({counter}\)$", text, re.M)
        assert names[-1] == total
        assert [getattr(registers, name) for name in names] == list(range(len(names)))
        for name in names:
            assert re.search(rf'^{name} = next\(\w+\)\n"""[A-Z0-9]', text, re.M), name


def test_c_knows_all_names_that_it_uses():
    defined = set(re.findall(r"^#define (\w+)", source.constants(), re.M))
    code = "".join(path.read_text(encoding="ascii") for path in source.FOLDER.glob("*.[ch]"))
    used = set(re.findall(r"\b(?:[NR]|CALL|PLACE)_[A-Z_]+\b|\b[A-Z]+_CELLS\b", code))
    assert used - defined == set()
    shared = {name for name in defined if not name.startswith(("N_", "PLACE_"))}
    assert {name for name in shared if not re.search(rf"\b{name}\b", code)} == set()
