"""Arrays derived from a model's constants, shared by all plans of a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinyonnx.files import release_pages
from tinyonnx.ir import Array
from tinyonnx.sizes.expressions import SizeError
from tinyonnx.sizes.integers import is_size


class ConstantPool:
    """Caches arrays derived from a model's initializers (folded, packed), so that plans share them.

    Only results that derive from adopted arrays alone are kept: a constant that depends on the input shapes of one plan
    must not outlive that plan.
    """

    def __init__(self) -> None:
        self._owned: dict[int, Array] = {}
        self._derived: dict[tuple[Any, ...], Any] = {}

    def adopt(self, array: Array) -> None:
        """Keep an array alive, and cache arrays that are derived from it."""
        self._owned[id(array)] = array

    def derive(self, tag: object, compute: Callable[..., Any], *sources: Array) -> Any:
        """Return `compute(*sources)`, an array or a list of arrays; the cached objects if all sources are adopted.

        `tag` and the identities of the sources are the key: the same tag must mean the same computation. Raises
        SizeError if the tag depends on sizes that vary: the result would be that of the current ones.
        """
        if _varies(tag):
            raise SizeError("a constant depends on sizes")
        if any(id(source) not in self._owned for source in sources):
            return compute(*sources)
        key = (tag, *map(id, sources))
        if key not in self._derived:
            result = compute(*sources)
            for source in sources:
                release_pages(source)
            for array in result if isinstance(result, (list, tuple)) else [result]:
                self.adopt(array)
            self._derived[key] = result
        return self._derived[key]


def _varies(tag: Any) -> bool:
    return any(map(_varies, tag)) if isinstance(tag, tuple) else is_size(tag)
