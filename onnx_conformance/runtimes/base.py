"""The record of a runtime: a way to run models, with three calls: start, prepare, run."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from onnx_conformance import ConformanceError

Run = Callable[[dict[str, Any]], Any]
"""Function from inputs by name to outputs in order."""

Prepare = Callable[[bytes], Run]
"""Function from a serialised model to its `Run`."""


@dataclass(frozen=True)
class Runtime:
    """A way to run models, on one thread.

    `start` is called once in every worker, so it must be importable. `module` must be installed, unless it is empty;
    pip installs it as `package`. Errors that match `unsupported` mean that the runtime does not claim to support the
    model.
    """

    name: str
    module: str
    package: str
    start: Callable[[], Prepare]
    unsupported: str

    def check_installed(self) -> None:
        """Raise ConformanceError if the runtime isn't installed."""
        if self.module and not _is_found(self.module):
            raise ConformanceError(f"--runtime {self.name} needs {self.package}: pip install {self.package}")

    def version(self) -> str:
        """Return the version of the installed module, empty if it has none.

        This imports the module, which may do anything: call it in a worker only.
        """
        if not self.module:
            return ""
        found = str(getattr(importlib.import_module(self.module), "__version__", ""))
        try:
            return found or metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return ""

    def is_unsupported(self, error: BaseException) -> bool:
        """Return whether the error means that the runtime lacks a feature that the model needs."""
        if isinstance(error, ImportError):  # a package that only some operators need
            return True
        return re.search(self.unsupported, f"{type(error).__name__}: {error}") is not None


def _is_found(module: str) -> bool:
    """Return whether the package of a module is installed, without importing it."""
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except ValueError:  # a module without a file, such as __main__
        return False
