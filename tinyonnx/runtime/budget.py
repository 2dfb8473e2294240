"""The budget of one run: time, loop iterations and memory, checked against its limits."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from tinyonnx.errors import ResourceError
from tinyonnx.ir import Array
from tinyonnx.limits import HOW_TO_RAISE_IT, Limits

_SMALL = 1 << 12
"""Arrays below this size in bytes are not counted, because counting would take longer than small steps."""


class Stoppable(Protocol):
    """Options of one run, as far as the runtime reads them."""

    terminate: bool
    """Return whether the run has to end at the next step."""


class RunBytesError(ResourceError):
    """A run would hold more bytes than its limit; the caller adds the node."""


class Budget:
    """Time, loop iterations and memory that one run has used.

    Memory is counted by the arrays that own it: views of the same array count once. A scope is the work of one node;
    memory held in it and not released before is released at its end.
    """

    def __init__(self, limits: Limits, run_options: Stoppable | None = None) -> None:
        self._limits = limits
        self._run_options = run_options
        self.step_by_step = False
        self._deadline = None if limits.max_seconds is None else time.monotonic() + limits.max_seconds
        self._iterations = self._iterations_before = 0
        self._bytes = self._bytes_before = 0
        self._outside: Collection[int] = ()
        self._feeds: Sequence[Any] = ()
        self._fed: Collection[int] | None = None  # owners of the feeds, as soon as they are needed
        self._held: dict[int, int] = {}  # number of values by owner
        self._scope: dict[int, tuple[int, int]] = {}  # of this scope: number of values by owner, and its bytes

    @property
    def may_end(self) -> bool:
        """Whether the run may have to end early, after any step."""
        return self.step_by_step or self._deadline is not None or self._run_options is not None

    def check(self) -> None:
        """Raise ResourceError if the run is past its deadline or `terminate` is set."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise ResourceError(f"the run took longer than {self._limits.max_seconds} s (limit max_seconds)")
        if self._run_options is not None and self._run_options.terminate:
            raise ResourceError("the run was ended by RunOptions.terminate")

    @property
    def iterations_left(self) -> int:
        """Return the number of loop iterations that the run may still make."""
        return self._limits.max_loop_iterations - self._iterations

    def count_iterations(self, count: int) -> None:
        """Count as many iterations as are left, at most this many.

        Raises ResourceError if the run is past its deadline.
        """
        self._iterations += count
        self.check()

    def count_iteration(self) -> None:
        """Count a loop iteration. Raises ResourceError beyond the maximum, or if the run is past its deadline."""
        self._iterations += 1
        if self._iterations > self._limits.max_loop_iterations:
            raise ResourceError(
                f"more than {self._limits.max_loop_iterations} iterations in one run (limit max_loop_iterations)"
            )
        self.check()

    # -- memory -------------------------------------------------------------------------

    def begin(self, nbytes: int, constants: Collection[int], feeds: Sequence[Any]) -> None:
        """Start counting with the arena. Constants, which are `owners`, and feeds are not counted."""
        self._bytes, self._outside, self._fed = nbytes + self._bytes_before, constants, None
        self._feeds = feeds
        self._held, self._scope, self._iterations = {}, {}, self._iterations_before

    def next_stage(self) -> None:
        """Go on with another plan of the same run, while all that is counted is kept."""
        self._iterations_before, self._bytes_before = self._iterations, self._bytes

    def check_room(self, nbytes: int) -> None:
        """Raise ResourceError if this many more bytes would exceed the limit."""
        if self._bytes + nbytes > self._limits.max_run_bytes:
            raise RunBytesError(
                f"the run would hold {self._bytes + nbytes} bytes at a time, the limit max_run_bytes is "
                f"{self._limits.max_run_bytes}; {HOW_TO_RAISE_IT}"
            )

    def hold(self, value: Any) -> None:
        """Count a tensor, or the tensors of a sequence, as held. Raises ResourceError beyond the limit."""
        if isinstance(value, list):
            for item in value:
                self.hold(item)
        if not isinstance(value, np.ndarray) or (value.nbytes < _SMALL and value.base is None):
            return
        owner = _owner(value)
        key = id(owner)
        if self._fed is None:
            self._fed = owners(self._feeds)
        if key in self._outside or key in self._fed:
            return
        if key not in self._held:
            self.check_room(owner.nbytes)
            self._bytes += owner.nbytes
        self._held[key] = self._held.get(key, 0) + 1
        self._scope[key] = self._scope.get(key, (0, 0))[0] + 1, owner.nbytes

    def release(self, value: Any) -> None:
        """Stop counting a value that was held in this scope; any other is ignored."""
        if isinstance(value, list):
            for item in value:
                self.release(item)
        if isinstance(value, np.ndarray) and (value.nbytes >= _SMALL or value.base is not None):
            self._give(id(_owner(value)), 1)

    def enter(self) -> dict[int, tuple[int, int]]:
        """Begin a scope; return the outer one, for `leave`."""
        outer, self._scope = self._scope, {}
        return outer

    def leave(self, outer: dict[int, tuple[int, int]]) -> None:
        """End a scope."""
        for key, (count, _) in list(self._scope.items()):
            self._give(key, count)
        self._scope = outer

    def _give(self, key: int, count: int) -> None:
        held, nbytes = self._scope.get(key, (0, 0))
        if held < count or not held:
            return
        if held == count:
            del self._scope[key]
        else:
            self._scope[key] = held - count, nbytes
        if self._held[key] == count:
            del self._held[key]
            self._bytes -= nbytes
        else:
            self._held[key] -= count


def owners(arrays: Iterable[Any]) -> set[int]:
    """Return the ids of the arrays that own the memory of other arrays."""
    return {id(_owner(array)) for array in arrays if isinstance(array, np.ndarray)}


def _owner(array: Array) -> Array:
    """Return the array that owns the memory of a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
