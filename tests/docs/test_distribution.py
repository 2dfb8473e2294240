"""The distribution is called tinyonnx: PyPI's `audiotag` is another project, which no hint may install."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

import audiotag
import tinyonnx

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = set(PROJECT["optional-dependencies"])
FOLDERS = (
    "audiotag",
    "tinyonnx",
    "onnx_conformance",
    "conformance",
    "benchmarks",
    "docs",
    "examples",
    "models",
    "scripts",
    ".ci",
)
SUFFIXES = {".py", ".md", ".toml", ".yml", ".html", ""}
INSTALL = re.compile(r"pip install((?:[ ]+(?:-[a-z-]+|[\"']?[\w.{}-]+(?:\[[\w,]*\])?[\"']?))+)")
REQUIREMENT = re.compile(r"([\w.-]+)(?:\[([\w,]+)\])?")


def _texts() -> list[tuple[str, str]]:
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*"))]
    files += [*ROOT.glob("*.md"), ROOT / "pyproject.toml"]
    return [
        (str(path.relative_to(ROOT)), path.read_text())
        for path in files
        if path.is_file() and path.suffix in SUFFIXES and "__pycache__" not in path.parts
    ]


def _dependencies() -> set[str]:
    """Return names of the distributions that pyproject.toml names anywhere."""
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return {match[1].lower() for entries in lists for entry in entries if (match := REQUIREMENT.match(entry))}


def _hints() -> list[tuple[str, str]]:
    """Yield each distribution that a text of ours says to install, without options, with the text's path."""
    found = []
    for name, text in _texts():
        for match in INSTALL.finditer(text):
            found += [(name, word.strip("\"'")) for word in match[1].split() if not word.startswith("-")]
    return found


def test_hints_are_found() -> None:
    hints = {hint for _, hint in _hints()}
    assert {"tinyonnx[formats]", "tinyonnx[plot]", "tinyonnx[serve]", ".", ".[test]", ".[dev]"} <= hints


def _is_ours(name: str, extras: str | None) -> bool:
    return name in (".", "tinyonnx") and set(extras.split(",") if extras else ()) <= EXTRAS


@pytest.mark.parametrize(("place", "hint"), _hints())
def test_hints_name_this_distribution_or_a_dependency(place: str, hint: str) -> None:
    match = REQUIREMENT.fullmatch(hint)
    assert match or "{" in hint, f"{place} says to install {hint}"
    if match:
        assert _is_ours(*match.groups()) or match[1].lower() in _dependencies() - {"tinyonnx"}, (
            f"{place} says to install {hint}, which is neither this distribution with known extras nor a dependency"
        )


def test_no_text_gives_the_other_project_extras() -> None:
    for name, text in _texts():
        assert not re.search(r"audiotag\\?\[[a-z]", text), f"{name} takes PyPI's audiotag for this project"


def test_the_version_has_one_place() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert audiotag.__version__ == tinyonnx.__version__
    literal = re.compile(rf"[\"']{re.escape(tinyonnx.__version__)}[\"']")
    others = "benchmarks/zoo/packages.py"  # versions of other packages, one of which may be equal
    texts = [(name, text) for name, text in _texts() if name.endswith((".py", ".toml")) and name != others]
    holders = [name for name, text in texts if literal.search(text)]
    assert holders == ["tinyonnx/__init__.py"]


def test_the_installed_distribution_has_all_commands() -> None:
    try:
        installed = distribution("tinyonnx")
    except PackageNotFoundError:
        pytest.skip("runs from a checkout that isn't installed")
    assert {point.name for point in installed.entry_points} == {"audiotag", "tinyonnx", "onnx-conformance"}


def test_the_changelog_describes_this_version() -> None:
    assert f"## [{tinyonnx.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
