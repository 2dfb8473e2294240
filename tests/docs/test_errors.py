"""The catalogue of errors names every error type of the packages, and no other."""

from __future__ import annotations

import importlib
import pkgutil
import re

import audiotag
import onnx_conformance
import tinyonnx
from onnx_conformance import ConformanceError
from tests.docs.blocks import ROOT

EXTRAS = ("audiotag.serve",)
"""Packages whose modules need an extra; their errors are in those that don't."""

INTERNAL = {"InvalidData"}
"""Errors that the runtime itself catches, and raises another in their place."""


def _types() -> set[str]:
    for package in (audiotag, tinyonnx, onnx_conformance):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.startswith(EXTRAS) and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    importlib.import_module("audiotag.serve.analysis")
    found: set[type[BaseException]] = {audiotag.Error, tinyonnx.Error, tinyonnx.OpError, ConformanceError}
    new = set(found)
    while new:
        new = {sub for each in new for sub in each.__subclasses__()} - found
        found |= new
    names = {
        each.__name__ for each in found if each.__module__.startswith(("audiotag", "tinyonnx", "onnx_conformance"))
    }
    return {name for name in names if not name.startswith("_")} - {"Error"} - INTERNAL


def test_every_error_is_in_the_catalogue() -> None:
    text = (ROOT / "docs/errors.md").read_text()
    builtins = {"RuntimeError", "ValueError"}
    named = set(re.findall(r"`(\w+(?:Error|NotFound))`", text))
    types = _types()
    assert types - named == set()
    assert named - types == builtins
