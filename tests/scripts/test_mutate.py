"""The contributors' mutation tool finds the places to change, leaves the rest alone, and tells caught from survived."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from tests.scripts.loading import load_script


@pytest.fixture(scope="module")
def mutate() -> ModuleType:
    return load_script("mutate")


def _texts(mutate: ModuleType, source: str) -> set[str]:
    return {mutant.apply(source).strip() for mutant in mutate.find_mutants(source)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", {"x = a <= b", "x = a >= b"}),
        ("x = a is not None", {"x = a is None"}),
        ("x = a - b", {"x = a + b", "x = ((b) - (a))"}),
        ("x += a", {"pass", "x -= a"}),
        ("x = n", set()),
        ("x = 3", {"x = 4", "x = 2"}),
        ("x = 0", {"x = 1", "x = (-1)"}),
        ("x = 0.5", {"x = 1.0"}),
        ("x = a and b", {"x = ((a) or (b))", "x = True and b", "x = a and True"}),
        ("x = not a", {"x = (a)"}),
        ("x = f(a, b)", {"x = f(b, a)"}),
        ("x = min(a)", {"x = max(a)"}),
        ("f()", {"pass"}),
        ("x.y = a", {"pass"}),
        ("x = [a for a in b if a]", {"x = [a for a in b if True]"}),
        ("raise E(f'{1}')", {"pass"}),
        ("if a:\n    f(b)", {"if True:\n    f(b)", "if False:\n    f(b)", "if a:\n    pass"}),
        ("é = 'ß' if a == b else ü", {"é = 'ß' if a != b else ü", "é = 'ß' if True else ü", "é = 'ß' if False else ü"}),
    ],
)
def test_mutants_of(mutate: ModuleType, source: str, expected: set[str]) -> None:
    assert _texts(mutate, source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""Docs 1."""',
        "def f(a: Literal[1]) -> Literal[2]:\n    '''3'''",
        "x: Literal[1] = y",
        "log.info(1)",
        "if TYPE_CHECKING:\n    x = 1",
        "__all__ = [1]",
        "import a",
        "class A(Protocol):\n    x = 1",
    ],
)
def test_what_is_left_alone(mutate: ModuleType, source: str) -> None:
    assert _texts(mutate, source) == set()


def test_the_tests_beside_a_module(mutate: ModuleType) -> None:
    assert mutate.tests_beside(Path("audiotag/crawl/journal.py")) == [Path("tests/audiotag/crawl/test_journal.py")]
    assert mutate.tests_beside(Path("audiotag/crawl/__init__.py")) == [Path("tests/audiotag/crawl")]
    assert Path("tests/tinyonnx/test_registry.py") in mutate.tests_beside(Path("tinyonnx/__init__.py"))


@pytest.mark.trials
def test_a_survivor_is_reported(
    mutate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    (project / "pack").mkdir(parents=True)
    (project / "tests/pack").mkdir(parents=True)
    module = project / "pack/thing.py"
    module.write_text(
        "def is_large(x):\n    return x > 5\n\n\ndef loop():\n    n = 0\n    while n < 2:\n        n += 1\n"
    )
    tests = project / "tests/pack/test_thing.py"
    tests.write_text(
        "from pack.thing import *\n\n\ndef test():\n    assert is_large(7) and not is_large(5)\n    loop()\n"
    )
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    monkeypatch.setattr(mutate, "ROOT", project)
    before = module.read_text()
    assert mutate.main([str(module), "--lines", "1-2"]) == 1
    out = capsys.readouterr().out
    assert out.count("SURVIVED") == 1
    assert "+ return x > 6" in out
    assert "caught 3 of 4 (75%)" in out

    tests.write_text(tests.read_text() + "    assert is_large(6)\n")
    assert mutate.main([str(module), "--lines", "1-2", "--jobs", "2"]) == 0
    # a loop that doesn't end is caught by the time limit
    mutants = [m for m in mutate.find_mutants(before) if m.line == 8 and m.text == "pass"]
    copy = mutate.Copy(tmp_path / "copy", Path("pack/thing.py"), [Path("tests/pack/test_thing.py")])
    assert copy.run(mutants[0].apply(before), limit=2) == "time limit"
    assert copy.run(before, limit=600) == "passed"
    copy.close()
    assert module.read_text() == before


@pytest.mark.trials
def test_tests_that_fail_without_a_mutant_end_the_run(
    mutate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "thing.py").write_text("x = 1\n")
    (tmp_path / "tests/test_thing.py").write_text("def test():\n    assert False\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    assert mutate.main([str(tmp_path / "thing.py")]) == 1
    assert "the tests fail on unchanged code" in capsys.readouterr().err
