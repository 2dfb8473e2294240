"""The layout of the memory that kernels and glue share."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from audiotag.standalone import build, control, registers, settings


def numbers(module):
    return {name: value for name, value in vars(module).items() if name.isupper() and isinstance(value, int)}


def test_registers_are_numbered_one_by_one():
    found = numbers(registers)
    assert found.pop("REGISTERS") == len(found)
    assert sorted(found.values()) == list(range(len(found)))


def test_settings_are_numbered_one_by_one():
    text = Path(settings.__file__).read_text(encoding="utf-8")
    for counter, total in (("_index", "SETTINGS"), ("_real_index", "REALS"), ("_fact_index", "MODEL_FACTS")):
        names = re.findall(rf"^(\w+) = next\({counter}\)$", text, re.M)
        assert names[-1] == total
        assert [getattr(settings, name) for name in names] == list(range(len(names)))


@pytest.mark.parametrize("module", [registers, settings])
def test_each_is_documented(module):
    text = Path(module.__file__).read_text(encoding="utf-8")
    for name in numbers(module):
        assert re.search(rf'^{name} = next\(\w+\)\n"""[A-Z0-9]', text, re.M), name


def test_the_glue_uses_names_that_exist():
    code = (Path(build.__file__).parent / "glue.c").read_text()
    used = set(re.findall(r"AT_(\w+)", code)), set(re.findall(r"DO_(\w+)", code))
    assert all(hasattr(registers, name) for name in used[0])
    assert all(hasattr(control, name) for name in used[1])
    assert used[0] >= {"KERNEL", "ACTION", "RESULT"}
    assert used[1] >= {"OPEN", "READ", "MODEL", "WRITE", "EXIT"}


def test_every_problem_has_a_message():
    assert sorted(control.PROBLEMS) == list(range(1, len(control.PROBLEMS) + 1))
    assert all(text.count("{}") <= 2 for text in control.PROBLEMS.values())
