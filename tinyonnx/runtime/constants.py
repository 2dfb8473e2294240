"""Arrays derived from a model's constants, shared by all plans of a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinyonnx.ir import Array


class ConstantPool:
    """Arrays derived from a model's constants (folded, packed), computed once for all plans.

    Only what derives from adopted arrays (the initializers) alone is kept: a constant that
    came from the input shapes of one plan must not outlive it.
    """

    def __init__(self) -> None:
        self._owned: dict[int, Array] = {}
        self._derived: dict[tuple[Any, ...], Any] = {}

    def adopt(self, array: Array) -> None:
        """Let what derives from this array be kept; the pool keeps the array alive."""
        self._owned[id(array)] = array

    def derive(self, tag: object, compute: Callable[..., Any], *sources: Array) -> Any:
        """`compute(*sources)`, an array or a list of arrays; the same objects each time where sources are adopted."""
        if any(id(source) not in self._owned for source in sources):
            return compute(*sources)
        key = (tag, *map(id, sources))
        if key not in self._derived:
            result = compute(*sources)
            for array in result if isinstance(result, (list, tuple)) else [result]:
                self.adopt(array)
            self._derived[key] = result
        return self._derived[key]
