"""Plans for many sizes, which a session keeps for inputs of one kind."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinyonnx.errors import Error
from tinyonnx.runtime.plan import Plan
from tinyonnx.sizes.expressions import SMALLEST, Trace

if TYPE_CHECKING:
    from tinyonnx.runtime.sized import SizedPlan
    from tinyonnx.runtime.sized_execution import PlanForSizes, Values
    from tinyonnx.runtime.stored_plan import PlanStore

_LOG = logging.getLogger("tinyonnx.sizes")

PLANS_KEPT = 8
"""Maximum number of plans; a model that needs more is planned for every size separately."""

_CHANCES = 3
"""Number of failed attempts after which every size is planned separately."""

Shapes = tuple[tuple[int, ...], ...]
"""Shapes of all inputs; () for an input that is not a tensor."""

Make = Callable[[list[tuple[Any, ...]]], Plan]
"""Makes a plan for inputs of these shapes, some of whose sizes are symbols."""


class _Known(NamedTuple):
    """The axes by their sizes: groups that vary, each with one size, and the other axes; with the plans for them.

    Threads read all of it at once.
    """

    groups: list[list[tuple[int, int]]]
    fixed: list[tuple[int, int, int]]
    plans: list[PlanForSizes]


class SizedPlans:
    """Finds out which sizes of the inputs vary, and plans for all their values.

    Args:
        shapes: those of a first set of inputs.
        names: for every axis of every input the name that the model gives to its size, or something else. Axes of
            one name have the same size.
        store: has the plan of an earlier process, if any.
    """

    def __init__(self, shapes: Shapes, names: Sequence[Sequence[Any]], store: PlanStore | None = None) -> None:
        self._names, self._store = names, store
        self._known = _known(shapes, [])
        if store is not None:
            for groups in self._choices(shapes):
                plan = store.read(_key(shapes, groups))
                if plan is not None:
                    self._known = _known(shapes, groups, plan)
                    break
        self._pinned = 0
        self.refused = ""
        self._lock = threading.Lock()

    def store(self, shapes: Shapes, make: Make) -> None:
        """Make a plan for all sizes that the model does not fix, for this process and later ones; once.

        If there can be none, a plan for these sizes is stored for later processes.
        """
        with self._lock:
            store, self._store = self._store, None
            if store is None or self._plans:
                return
            for groups in self._choices(shapes):
                try:
                    plan = make_sized(shapes, groups, make)
                except Exception as error:  # whatever can't be done for all sizes can be done for one
                    _LOG.debug("not stored: %s: %s", type(error).__name__, error)
                    continue
                if not plan.is_pinned:
                    if groups:
                        self._known = _known(shapes, groups, plan)
                    store.write(_key(shapes, groups), plan)
                    return

    def only_run(self, shapes: Shapes) -> Callable[..., list[Any]] | None:
        """Return the run of the only plan, for shapes in which no further sizes vary; None if that isn't known."""
        known = self._known
        if len(known.plans) != 1 or self.refused or any(shapes[i][axis] != size for i, axis, size in known.fixed):
            return None
        values = _values(known, shapes)
        return None if values is None else partial(known.plans[0].run, values)

    def candidates(self, shapes: Shapes, make: Make) -> Iterator[tuple[PlanForSizes, Values]]:
        """Yield plans that may hold for these shapes, with the values of their symbols."""
        known = None if self.refused else self._learn(shapes)
        values = None if known is None or not (known.groups or known.plans) else _values(known, shapes)
        if known is None or values is None:
            return
        tried: list[PlanForSizes] = []
        while True:
            plan = next((plan for plan in known.plans if plan not in tried), None)
            if plan is None:
                with self._lock:
                    known = self._known if self._known.groups is known.groups else known
                    if any(plan not in tried for plan in known.plans):
                        continue  # of another thread
                    if len(tried) >= PLANS_KEPT or not known.groups:
                        return
                    plan = self._make(known, shapes, make)
            if plan is None:
                return
            tried.append(plan)
            yield plan, values

    def prefer(self, plan: PlanForSizes) -> None:
        """Try a plan first from now on."""
        known = self._known
        if known.plans and known.plans[0] is not plan and self._lock.acquire(blocking=False):
            try:
                plans = self._known.plans
                if plan in plans:
                    self._known = self._known._replace(plans=[plan, *(other for other in plans if other is not plan)])
            finally:
                self._lock.release()

    def unlock(self) -> None:
        """Replace locks in a forked child, where the thread that held one does not exist."""
        self._lock = threading.Lock()
        for plan in self._plans:
            plan.unlock()

    def _learn(self, shapes: Shapes) -> _Known:
        """Note which sizes vary; return what is known then."""
        known = self._known
        if any(shapes[i][axis] != size for i, axis, size in known.fixed):
            with self._lock:
                known = self._known = self._with_varying(self._known, shapes)
        return known

    def _with_varying(self, known: _Known, shapes: Shapes) -> _Known:
        """Let all sizes vary that differ in these shapes."""
        new = {self._name(i, axis) for i, axis, size in known.fixed if shapes[i][axis] != size}
        if not new:
            return known
        before = {place for group in known.groups for place in group}
        groups: dict[Any, list[tuple[int, int]]] = {}
        for place in ((i, axis) for i, shape in enumerate(shapes) for axis in range(len(shape))):
            name = self._name(*place)
            if name in new or place in before:
                groups.setdefault(name, []).append(place)
        varying = {place for group in groups.values() for place in group}
        return _Known(list(groups.values()), [fixed for fixed in known.fixed if fixed[:2] not in varying], [])

    def _declared(self, shapes: Shapes) -> list[list[tuple[int, int]]]:
        """Return the axes to which the model gives no fixed size, by name; none if sizes of one name differ."""
        groups: dict[Any, list[tuple[int, int]]] = {}
        for i, shape in enumerate(shapes):
            for axis, size in enumerate(shape[: len(self._names[i])]):
                if size >= SMALLEST and not isinstance(self._names[i][axis], int):
                    groups.setdefault(self._name(i, axis), []).append((i, axis))
        equal = all(len({shapes[i][axis] for i, axis in group}) == 1 for group in groups.values())
        return list(groups.values()) if equal else []

    def _choices(self, shapes: Shapes) -> list[list[list[tuple[int, int]]]]:
        """Return the groups of axes for which plans are stored, best first: no sizes vary in the last."""
        declared = self._declared(shapes)
        return [declared, []] if declared else [[]]

    def _give_up(self, reason: str) -> SizedPlan | None:
        _LOG.debug("planning size by size: %s", reason)
        self.refused = reason
        return None

    def _name(self, i: int, axis: int) -> Any:
        """Return the name of a size; (input, axis) if the model gives it none."""
        names = self._names[i]
        return names[axis] if axis < len(names) and isinstance(names[axis], str) else (i, axis)

    @property
    def _plans(self) -> list[PlanForSizes]:
        return self._known.plans

    def _make(self, known: _Known, shapes: Shapes, make: Make) -> SizedPlan | None:
        try:
            plan = make_sized(shapes, known.groups, make)
        except Error:  # planning for this size alone raises the error for the user
            return None
        except Exception as error:  # a model that can't be planned for all sizes can be planned for one
            return self._give_up(f"{type(error).__name__}: {error}")
        if plan.is_pinned:  # perhaps because this size happens to equal another one
            self._pinned += 1
            return None if self._pinned < _CHANCES else self._give_up("plans hold for one size alone")
        known.plans.insert(0, plan)
        return plan


def _values(known: _Known, shapes: Shapes) -> Values | None:
    """Return the sizes that vary, one per group; None if those of a group differ or one is too small for a plan."""
    values = []
    for group in known.groups:
        i, axis = group[0]
        size = shapes[i][axis]
        if size < SMALLEST or any(shapes[i][axis] != size for i, axis in group):
            return None
        values.append(size)
    return tuple(values)


def _known(shapes: Shapes, groups: list[list[tuple[int, int]]], *plans: PlanForSizes) -> _Known:
    """Return the state with a plan in which the sizes of these groups of axes vary, and no others."""
    varying = {place for group in groups for place in group}
    places = [(i, axis, size) for i, shape in enumerate(shapes) for axis, size in enumerate(shape)]
    return _Known(groups, [place for place in places if place[:2] not in varying], list(plans))


def _key(shapes: Shapes, groups: Sequence[Sequence[tuple[int, int]]]) -> tuple[tuple[int | None, ...], ...]:
    """Return the shapes with None for sizes that vary."""
    varying = {place for group in groups for place in group}
    return tuple(
        tuple(None if (i, axis) in varying else size for axis, size in enumerate(shape))
        for i, shape in enumerate(shapes)
    )


def make_sized(shapes: Shapes, groups: Sequence[Sequence[tuple[int, int]]], make: Make) -> SizedPlan:
    """Plan for inputs of these shapes, in which the sizes of some groups of axes, (input, axis), are symbols.

    Raises SizeError, Unfit, and the errors of `make`.
    """
    # imported at the second size, because it takes 2 ms, which a process with a single size saves
    from tinyonnx.runtime.sized import SizedPlan

    trace = Trace()
    symbolic: list[list[Any]] = [list(shape) for shape in shapes]
    symbols = []
    for i, axis in (group[0] for group in groups):
        symbols.append(trace.symbol(f"size{i}_{axis}", shapes[i][axis]))
    for group, symbol in zip(groups, symbols):
        for i, axis in group:
            symbolic[i][axis] = symbol
    return SizedPlan(make([tuple(shape) for shape in symbolic]), trace, symbols)


def shapes_of(feeds: Sequence[Any]) -> Shapes:
    """Return the shapes of the feeds, as `SizedPlans` takes them."""
    return tuple(feed.shape if isinstance(feed, np.ndarray) else () for feed in feeds)
