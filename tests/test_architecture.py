"""The structure of the source: which package may import which, no import circles, sizes of modules and functions."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import QUICK, SLOW

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("tinyonnx", "audiotag", "onnx_conformance")

VOCABULARY = {"errors", "limits", "ir", "dtypes", "files", "disk_cache", "registry"}
"""Top-level modules of tinyonnx that every package may import."""

ALLOWED = {
    "tinyonnx": {
        "sizes": VOCABULARY,
        "codegen": VOCABULARY | {"sizes"},
        "ops": VOCABULARY | {"sizes"},
        "onnxfile": VOCABULARY | {"sizes", "ops"},
        "passes": VOCABULARY | {"sizes", "ops"},
        "kernels": VOCABULARY | {"sizes", "ops", "codegen"},
        "runtime": VOCABULARY | {"sizes", "ops", "codegen", "onnxfile", "passes", "kernels"},
        "ort": VOCABULARY | {"sizes", "ops", "codegen", "onnxfile", "passes", "runtime", "tinyonnx"},
        "native": VOCABULARY | {"sizes", "codegen", "kernels", "runtime", "ort"},
        "tools": VOCABULARY | {"sizes", "ops", "onnxfile", "kernels", "passes", "runtime", "ort"},
        "commands": VOCABULARY | {"codegen", "passes", "ort", "tools", "native", "tinyonnx"},
        "backend": VOCABULARY | {"ort"},
        "cli": {"commands", "errors", "tinyonnx"},
        "__main__": {"cli"},
        "tinyonnx": VOCABULARY | {"codegen", "onnxfile", "ort"},
        "errors": set(),
        "ir": {"sizes"},
        "dtypes": set(),
        "limits": {"errors"},
        "files": {"errors"},
        "disk_cache": {"errors", "files"},
        "registry": {"errors", "ir", "sizes", "ops"},  # ops, when it is asked for one that is not registered yet
    },
    "audiotag": {
        "errors": set(),
        "console": {"errors"},
        "options": {"errors", "labels", "events", "sound"},
        "selection": {"labels", "results"},
        "scoring": {"errors", "events", "features", "models", "sound"},
        "labels": {"errors"},
        "results": {"errors", "audiotag"},
        "events": {"labels", "results"},
        "features": {"errors"},
        "sound": {"errors", "features"},
        "models": {"errors", "labels", "features", "audiotag"},
        "outputs": {"errors", "results", "events", "options", "audiotag"},
        "tagger": {
            "errors", "events", "labels", "results", "models", "options", "outputs", "scoring", "selection", "sound",
        },
        "pictures": {"errors", "events", "labels", "results", "features", "sound", "tagger", "models", "options"},
        "search": {"errors", "sound"},
        "learning": {"errors", "models", "sound", "tagger"},
        "crawl": {
            "errors", "console", "events", "labels", "results", "options", "models", "outputs", "sound", "tagger",
            "audiotag",
        },
        "serve": {
            "errors", "labels", "features", "sound", "models", "scoring", "tagger", "results", "crawl", "audiotag",
        },
        "standalone": {"errors", "labels", "features", "models", "sound", "outputs", "audiotag"},
        "web": {"standalone", "models", "audiotag"},
        "commands": {
            "errors", "console", "events", "labels", "results", "options", "tagger", "crawl", "models", "outputs",
            "pictures", "serve", "sound", "standalone", "web", "learning",
            "search",
        },
        "cli": {"errors", "console", "commands", "audiotag"},
        "__main__": {"cli"},
        "audiotag": {"crawl", "errors", "events", "results", "tagger"},
    },
    "onnx_conformance": {
        "onnx_conformance": set(),
        "reproduce": set(),
        "runtimes": {"onnx_conformance", "reproduce"},
        "comparison": set(),
        "workers": {"onnx_conformance", "runtimes"},
        "generate": {"onnx_conformance", "runtimes", "suite", "workers"},
        "suite": {"onnx_conformance", "comparison", "runtimes", "workers"},
        "fuzz": {"onnx_conformance", "generate", "reproduce", "runtimes", "suite", "workers"},
        "accuracy": {"onnx_conformance", "runtimes", "suite", "workers"},
        "cli": {"onnx_conformance", "accuracy", "fuzz", "suite"},
        "__main__": {"cli"},
    },
}  # fmt: skip
"""Packages and top-level modules, and what they may import, at the top or within a function. The package's own name
stands for its `__init__`."""

SHARED = {f"tinyonnx.runtime.{module}" for module in ("arena", "budget", "constants", "operator_call")} | {
    "tinyonnx.ort.exceptions"
}
"""Modules that packages below their own may import, as they import nothing above these."""

OUTSIDE = {"tinyonnx": set(), "audiotag": {"tinyonnx"}, "onnx_conformance": {"tinyonnx"}}
"""Other packages of this repository that one may import."""

SAME_NAMES = {
    **{name: ["tinyonnx.errors", "audiotag.errors"] for name in ("Error", "ModelError")},
    "Window": ["tinyonnx.codegen.primitives", "audiotag.features.settings"],
}
"""Classes of the same name: each package has a public tree of exceptions; a window of a convolution's input in kernels,
and that of a Fourier transform in a public record."""

MOST_LINES, MOST_PARAMETERS, MOST_TOP_LEVEL = 500, 10, 10


@cache
def modules(package: str) -> dict[str, Path]:
    """Return the package's modules by dotted name."""
    found = {}
    for path in (ROOT / package).rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def syntax(path: Path) -> list[ast.AST]:
    """Return all nodes of the syntax tree of a module."""
    return list(ast.walk(ast.parse(path.read_text())))


@cache
def imports(package: str) -> list[tuple[str, str, bool]]:
    """Return importing module, imported module or package of this repository, and whether it is imported at once.

    Imports below `if TYPE_CHECKING` count like those at the top, but for those of a package's `__init__`, which declare
    what its `__getattr__` imports later.
    """
    known = modules(package)
    found = []
    for name, path in known.items():
        blocks = (ast.FunctionDef, ast.AsyncFunctionDef, *([ast.If] if name in PACKAGES else []))
        later = {id(node) for block in syntax(path) if isinstance(block, blocks) for node in ast.walk(block)}
        for node in syntax(path):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                targets = [f"{node.module}.{alias.name}" for alias in node.names]
                targets = [target if target in known else node.module for target in targets]
            else:
                continue
            targets = [target for target in targets if target.split(".")[0] in (*PACKAGES, "tests")]
            found += [(name, target, id(node) not in later) for target in targets]
    return found


def room(module: str) -> str:
    """Return the package or top-level module that a module belongs to."""
    return (module.split(".") + module.split("."))[1] if "." in module else module


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package):
    allowed = ALLOWED[package]
    wrong = set()
    for module, target, _ in imports(package):
        if target.split(".")[0] != package:
            if target.split(".")[0] not in OUTSIDE[package]:
                wrong.add(f"{module} imports {target}")
        elif room(module) != room(target) and target not in SHARED and room(target) not in allowed[room(module)]:
            wrong.add(f"{module} imports {target}")
    assert not wrong


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_listed(package):
    assert {room(module) for module in modules(package)} == ALLOWED[package].keys()


def test_shared_modules_stay_below():
    """They import nothing that imports them: neither passes nor kernels, nor the rest of the runtime."""
    below = VOCABULARY | {"sizes", "codegen", "onnxfile"}
    wrong = [
        (module, target) for module, target, _ in imports("tinyonnx")
        if module in SHARED and target not in SHARED and room(target) not in below
    ]  # fmt: skip
    assert not wrong


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_circles(package):
    graph: dict[str, set[str]] = {module: set() for module in modules(package)}
    for module, target, at_once in imports(package):
        if at_once and target in graph and target != module:
            graph[module].add(target)
    assert list(circles(graph)) == []


def circles(graph: dict[str, set[str]]) -> Iterator[list[str]]:
    """Return one circle for each group of nodes that reach each other."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> Iterator[list[str]]:
        if node in path:
            yield path[path.index(node) :]
        elif node not in done:
            for target in sorted(graph[node]):
                yield from visit(target, [*path, node])
            done.add(node)

    for node in sorted(graph):
        yield from visit(node, [])


def test_circles_are_found():
    assert list(circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == [["a", "b", "c"]]
    assert list(circles({"a": {"b", "c"}, "b": {"c"}, "c": set()})) == []


def test_lists_of_paths_name_what_exists():
    ignores = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]["per-file-ignores"]
    listed = {*SLOW, *QUICK, *(path.removesuffix("/**") for path in ignores)}
    assert sorted(path for path in listed if not (ROOT / path).exists()) == []


def test_class_names_are_unique():
    """Private classes are exempt, because they are visible in one module only."""
    places: dict[str, list[str]] = {}
    for package in PACKAGES:
        for module, path in modules(package).items():
            for node in syntax(path):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places.setdefault(node.name, []).append(module)
    assert {name: found for name, found in places.items() if len(found) > 1} == SAME_NAMES


@pytest.mark.parametrize("package", PACKAGES)
def test_few_modules_at_the_top(package):
    top = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__", "__main__"}
    assert len(top) <= MOST_TOP_LEVEL


def test_no_file_is_long():
    long = {
        str(path.relative_to(ROOT))
        for folder in (*PACKAGES, "conformance", "benchmarks", "tests", "examples")
        for pattern in ("*.py", "*.c", "*.h", "*.js", "*.css", "*.html")
        for path in (ROOT / folder).rglob(pattern)
        if len(path.read_text().splitlines()) > MOST_LINES
    }
    assert long == set()


def test_functions_take_few_parameters():
    """Exempt are operators (`ops/`: the signature is the schema) and modules that emit vector code."""
    wide = set()
    for package in (*PACKAGES, "conformance"):
        for module, path in modules(package).items():
            if module.startswith("tinyonnx.ops.") or path.name.startswith("emit"):
                continue
            for node in syntax(path):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                    if len([name for name in names if name not in ("self", "cls")]) > MOST_PARAMETERS:
                        wide.add(f"{module}.{node.name}")
    assert wide == set()
