"""Modules under the names of onnxruntime, for packages that import onnxruntime."""

from __future__ import annotations

import importlib.metadata
import pathlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import tinyonnx
from tinyonnx.ort.exceptions import EXCEPTIONS

API_VERSION = "1.23.0"
"""The onnxruntime release whose Python interface is offered."""


def install() -> None:
    """Make `import onnxruntime` give this package.

    Raises RuntimeError if the real onnxruntime was imported before.
    """
    if "onnxruntime" in sys.modules:
        if _is_installed():
            return
        raise RuntimeError("onnxruntime is imported already; call install_as_onnxruntime() earlier")
    public = {name: getattr(tinyonnx, name) for name in tinyonnx.__all__ if name != "install_as_onnxruntime"}
    public |= {"__version__": API_VERSION, "get_version_string": lambda: API_VERSION}
    state = {**public, **EXCEPTIONS}
    tree = {
        "onnxruntime": public,
        "onnxruntime.capi": {},
        "onnxruntime.capi.onnxruntime_pybind11_state": state,
        "onnxruntime.capi._pybind_state": state,
        "onnxruntime.capi.onnxruntime_inference_collection": public,
    }
    for name, content in tree.items():
        _install(name, content)
    if _Missing not in sys.meta_path:
        sys.meta_path.append(_Missing)
        sys.meta_path.insert(0, _Distributions())


def _is_installed() -> bool:
    return getattr(sys.modules.get("onnxruntime"), "InferenceSession", None) is tinyonnx.InferenceSession


class _Distribution(importlib.metadata.Distribution):
    """The metadata of a distribution onnxruntime, without files."""

    def read_text(self, filename: str) -> str | None:
        """Return the content of METADATA; None for any other file."""
        return f"Metadata-Version: 2.1\nName: onnxruntime\nVersion: {API_VERSION}\n" if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        """Return where a file of the distribution would be."""
        return pathlib.Path(tinyonnx.__file__).parent / path


class _Distributions(importlib.metadata.DistributionFinder):
    """Finds the metadata of the stand-in before those of an installed onnxruntime."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Return None: this finder has no modules."""

    def find_distributions(self, context: Any = None) -> Any:
        """Yield the distribution if it is asked for, or all are, while the stand-in is installed."""
        wanted = None if context is None else context.name
        if _is_installed() and (wanted is None or wanted.lower() == "onnxruntime"):
            yield _Distribution()


class _Missing:
    """The last finder asked for a module: explains why other modules of onnxruntime are missing."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Raise ModuleNotFoundError for a module of onnxruntime; return None for any other."""
        if name.startswith("onnxruntime.") and _is_installed():
            raise ModuleNotFoundError(
                f"{name} is missing: tinyonnx, which replaces onnxruntime here, does not implement it", name=name
            )


def _install(name: str, content: dict[str, Any]) -> None:
    module = ModuleType(name, "tinyonnx under the name of onnxruntime.")
    module.__spec__ = ModuleSpec(name, None, origin=tinyonnx.__file__, is_package=True)
    module.__file__ = tinyonnx.__file__
    module.__path__ = []
    vars(module).update(content)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
