"""Ensembles of decision trees as flat arrays, evaluated for all rows and all trees together.

Inner nodes are numbered first, then leaves; a leaf's number minus the number of inner nodes
is its index among the leaves. Comparing a feature with a threshold has one of four outcomes,
less, equal, greater, or missing (the feature is NaN), and a node's mode is the set of outcomes
that lead to its true branch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array

LESS, EQUAL, GREATER, MISSING = 1, 2, 4, 8

MODES = {
    "BRANCH_LEQ": LESS | EQUAL,
    "BRANCH_LT": LESS,
    "BRANCH_GTE": GREATER | EQUAL,
    "BRANCH_GT": GREATER,
    "BRANCH_EQ": EQUAL,
    "BRANCH_NEQ": LESS | GREATER,
    "BRANCH_MEMBER": EQUAL,
}
"""The outcomes that lead to the true branch, by mode, in the order of TreeEnsemble's mode numbers."""

_COMPARE: dict[int, Callable[[Array, Array], Array]] = {
    LESS | EQUAL: np.less_equal,
    LESS: np.less,
    GREATER | EQUAL: np.greater_equal,
    GREATER: np.greater,
    EQUAL: np.equal,
}
"""Comparisons by the outcomes they accept; NaN compares false, like at a node that doesn't accept MISSING."""

_PAIRS = 1 << 17
"""Pairs of a row and a tree per block, chosen to fit into the caches."""

_LEVELS_PER_TICK = 64


@dataclass(frozen=True)
class Members:
    """The sets of BRANCH_MEMBER nodes: `of_node` [inner] is the index of a node's set, or -1."""

    of_node: Array
    values: Array
    keys: Array

    @staticmethod
    def make(of_node: Array, sets: list[Array]) -> Members:
        """Create from the sets in the order of their indices."""
        values = np.unique(np.concatenate(sets)) if sets else np.empty(0)
        keys = [i * len(values) + np.searchsorted(values, members) for i, members in enumerate(sets)]
        return Members(of_node, values, np.sort(np.concatenate(keys)) if keys else np.empty(0, np.int64))

    def contain(self, sets: Array, x: Array) -> Array:
        """Return whether each element of `x` is in the set whose index `sets` gives."""
        if not self.keys.size:
            return np.zeros(x.shape, np.bool_)
        rank = np.minimum(np.searchsorted(self.values, x), len(self.values) - 1)
        key = sets * len(self.values) + rank
        at = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        return np.asarray((self.values[rank] == x) & (self.keys[at] == key))


@dataclass(frozen=True)
class Trees:
    """The structure of an ensemble; created by `Trees.make`, which checks that there are no cycles.

    `feature`, `threshold` and `accepts` (outcomes of the true branch) are of inner nodes;
    `children` [2 · inner] are the false and the true child of each, one after the other;
    `compare` is the comparison of all nodes if they have the same, else None.
    """

    feature: Array
    threshold: Array
    accepts: Array
    children: Array
    roots: Array
    members: Members | None = None
    compare: Callable[[Array, Array], Array] | None = None

    @staticmethod
    def make(
        feature: Array, threshold: Array, accepts: Array, children: Array, roots: Array, members: Members | None = None
    ) -> Trees:
        """Create from children and roots given as node numbers. Branches may join, as in trees of converted categories.

        Raises OpError for a negative feature and for a cycle.
        """
        inner = len(feature)
        if inner and feature.min() < 0:
            raise OpError(f"feature id {feature.min()} is negative")
        _check_acyclic(children, inner)
        kinds = np.unique(accepts)
        compare = _COMPARE.get(int(kinds[0])) if len(kinds) == 1 and members is None else None
        return Trees(feature, threshold, accepts, children, roots, members, compare)

    def leaves(self, x: Array, tick: Callable[[], None]) -> Iterator[tuple[slice, Array]]:
        """Yield blocks of rows [n, features] and indices of the leaves that they reach, [trees, rows of the block].

        `tick` is called regularly. Raises OpError if a node reads a feature that the input doesn't have.
        """
        if len(self.feature) and self.feature.max() >= x.shape[1]:
            raise OpError(f"a node reads feature {self.feature.max()}, the input has {x.shape[1]}")
        if x.dtype != self.threshold.dtype:
            x = x.astype(np.float32 if x.dtype == np.float16 else np.float64)
        step = max(1, _PAIRS // len(self.roots))
        for first in range(0, len(x), step):
            block = slice(first, min(first + step, len(x)))
            tick()
            yield block, self._walk(np.ascontiguousarray(x[block]), tick)

    def _walk(self, x: Array, tick: Callable[[], None]) -> Array:
        n, width = x.shape
        flat, inner, trees = x.reshape(-1), len(self.feature), len(self.roots)
        arrived = np.repeat(self.roots, n)
        walking = np.flatnonzero(arrived < inner)
        here = arrived[walking]
        row = np.tile(np.arange(n) * width, trees)[walking]
        level = 0
        while walking.size:
            value = flat.take(row + self.feature.take(here))
            here = self.children.take(2 * here + self._true(here, value))
            on = here < inner
            if not on.all():
                arrived[walking] = here
                walking, here, row = walking[on], here[on], row[on]
            level += 1
            if level % _LEVELS_PER_TICK == 0:
                tick()
        return (arrived - inner).reshape(trees, n)

    def _true(self, here: Array, value: Array) -> Array:
        """Return whether each value takes the true branch of its node."""
        threshold = self.threshold.take(here)
        if self.compare is not None:
            return np.asarray(self.compare(value, threshold))
        outcome = (value < threshold) * np.uint8(LESS)
        outcome |= (value == threshold) * np.uint8(EQUAL)
        outcome |= (value > threshold) * np.uint8(GREATER)
        if self.members is not None:
            sets = self.members.of_node.take(here)
            which = np.flatnonzero(sets >= 0)
            inside = self.members.contain(sets[which], value[which])
            outcome[which] = np.where(inside, EQUAL, LESS)
        outcome[np.isnan(value)] = MISSING
        return np.asarray((self.accepts.take(here) & outcome) != 0)


def _check_acyclic(children: Array, inner: int) -> None:
    is_branch = children < inner
    if (children > np.repeat(np.arange(inner), 2))[is_branch].all():
        return  # parents come before children, as most exporters write them
    ways = np.bincount(children[is_branch], minlength=inner)
    left, below = ways.tolist(), children.tolist()
    free = [node for node, count in enumerate(left) if not count]
    done = 0
    while free:
        node = free.pop()
        done += 1
        for child in below[2 * node : 2 * node + 2]:
            if child < inner:
                left[child] -= 1
                if not left[child]:
                    free.append(child)
    if done < inner:
        raise OpError(f"the nodes aren't trees: {inner - done} of them are on cycles, or below one")


@dataclass(frozen=True)
class Votes:
    """The votes of leaves: leaf i has votes start[i] to start[i + 1] - 1, each a weight for a target."""

    start: Array
    target: Array
    weight: Array
    targets: int

    @staticmethod
    def make(leaf: Array, target: Array, weight: Array, leaves: int, targets: int) -> Votes:
        """Create votes sorted by leaf, stable within a leaf. Raises OpError for a target out of range."""
        if target.size and (target.min() < 0 or target.max() >= targets):
            wrong = target.min() if target.min() < 0 else target.max()
            raise OpError(f"target or class {wrong} is out of range for {targets}")
        order = np.argsort(leaf, kind="stable")
        start = np.searchsorted(leaf[order], np.arange(leaves + 1))
        return Votes(start, target[order], weight[order], targets)

    def table(self) -> Array | None:
        """Return weights [leaves, targets] if every leaf has one vote for every target, in order, else None."""
        shape = (len(self.start) - 1, self.targets)
        if len(self.target) != shape[0] * shape[1] or (np.diff(self.start) != self.targets).any():
            return None
        in_order = (self.target.reshape(shape) == np.arange(self.targets)).all()
        return self.weight.reshape(shape) if in_order else None

    def of(self, leaves: Array) -> tuple[Array, Array]:
        """Return the indices of the votes of the leaves, and for each vote the position of its leaf in `leaves`."""
        start = self.start.take(leaves)
        count = self.start.take(leaves + 1) - start
        voter = np.repeat(np.arange(len(leaves)), count)
        first = np.cumsum(count) - count
        return np.arange(len(voter)) + (start - first).take(voter), voter


_GATHER: dict[str, tuple[Any, float]] = {
    "SUM": (np.add, 0.0),
    "AVERAGE": (np.add, 0.0),
    "MIN": (np.minimum, np.inf),
    "MAX": (np.maximum, -np.inf),
}
AGGREGATES = ["AVERAGE", "SUM", "MIN", "MAX"]
"""Aggregate functions in the order of their numbers in TreeEnsemble."""


@dataclass(frozen=True)
class Ensemble:
    """Trees and the votes of their leaves.

    `voted_for` are the targets with votes; `mixed` is true if some weights are negative.
    """

    trees: Trees
    votes: Votes
    table: Array | None
    voted_for: tuple[int, ...]
    mixed: bool

    @staticmethod
    def make(trees: Trees, votes: Votes) -> Ensemble:
        """Create with precomputed properties of the votes."""
        voted_for = tuple(np.unique(votes.target).tolist())
        return Ensemble(trees, votes, votes.table(), voted_for, bool((votes.weight < 0).any()))

    def scores(self, x: Array, aggregate: str, tick: Callable[[], None]) -> tuple[Array, Array]:
        """Return scores [n, targets] of rows [n, features], and whether any tree voted; 0 where none did.

        They are summed tree by tree in the type of the weights, or in float64 for float64 rows. Raises
        OpError for an unknown aggregate function, and the errors of `Trees.leaves`.
        """
        if aggregate not in _GATHER:
            raise OpError(f"unknown aggregate_function {aggregate!r}")
        gather, initial = _GATHER[aggregate]
        votes, shape = self.votes, (len(x), self.votes.targets)
        scores = np.full(shape, initial, np.promote_types(votes.weight.dtype, x.dtype if x.dtype.kind == "f" else "f4"))
        voted = np.full(shape, self.table is not None)
        with np.errstate(all="ignore"):
            for block, leaves in self.trees.leaves(x, tick):
                here = scores[block]
                if self.table is not None:
                    for of_tree in leaves:
                        gather(here, self.table.take(of_tree, 0), out=here)
                    continue
                index, voter = votes.of(leaves.reshape(-1))
                place = voter % leaves.shape[1] * votes.targets + votes.target.take(index)
                gather.at(here.reshape(-1), place, votes.weight.take(index).astype(scores.dtype))
                voted[block].reshape(-1)[place] = True
            if aggregate == "AVERAGE":
                scores /= len(self.trees.roots)
        return np.where(voted, scores, np.zeros((), scores.dtype)), voted
