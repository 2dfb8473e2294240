"""Place the nodes of a graph in a picture and route its edges between them.

Layers as in Sugiyama, Tagawa and Toda (1981): a node's row is the longest path to it; an edge over several rows passes
a free place in each row between, so that it crosses no node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

_SWEEPS = 4
_LONGEST = 40
"""Maximum number of rows over which an edge is routed around nodes; longer ones may cross them."""


class _Kind(NamedTuple):
    """Columns that an item takes, and the weight of its preferred column: nodes stay in line, edges move aside."""

    room: float
    weight: float


_NODE, _PASSING = _Kind(1.0, 1.0), _Kind(0.3, 1e-6)

Place = tuple[float, int]


class GraphLayout(NamedTuple):
    """(column, row) of each node, and of the places that each edge passes between its nodes."""

    places: list[Place]
    routes: list[list[Place]]


def layout(count: int, edges: Sequence[tuple[int, int]]) -> GraphLayout:
    """Place `count` nodes in execution order, at least one column apart within a row, and route the edges."""
    row = _rows(count, edges)
    links: list[tuple[int, int]] = []
    passing: list[list[int]] = []
    for source, target in edges:
        between = range(row[source] + 1, row[target]) if row[target] - row[source] <= _LONGEST else ()
        points = list(range(len(row), len(row) + len(between)))
        row.extend(between)
        passing.append(points)
        links += zip([source, *points], [*points, target])
    column = _columns(row, count, links)
    place = [(round(column[i], 3), row[i]) for i in range(len(row))]
    return GraphLayout(place[:count], [[place[i] for i in points] for points in passing])


def _rows(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    row = [0] * count
    after: dict[int, list[int]] = {}
    targets = set()
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        row[target] = max(row[target], row[source] + 1)
        after.setdefault(source, []).append(target)
        targets.add(target)
    for node in range(count):
        if node not in targets and node in after:  # a node without inputs is placed just above its readers
            row[node] = min(row[target] for target in after[node]) - 1
    return row


def _columns(row: Sequence[int], count: int, links: Sequence[tuple[int, int]]) -> list[float]:
    above: dict[int, list[int]] = {}
    below: dict[int, list[int]] = {}
    for source, target in links:
        above.setdefault(target, []).append(source)
        below.setdefault(source, []).append(target)
    members: list[list[int]] = [[] for _ in range(max(row, default=-1) + 1)]
    for node in range(len(row)):
        members[row[node]].append(node)
    both = {node: above.get(node, []) + below.get(node, []) for node in range(len(row))}
    grid = _Grid([0.0] * len(row), [_NODE if node < count else _PASSING for node in range(len(row))])
    for _ in range(_SWEEPS):
        grid.sweep(members, above)
        grid.sweep(members[::-1], below)
    grid.sweep(members, both, sort=False)
    grid.sweep(members, above, sort=False)
    grid.straighten(members)
    return grid.column


class _Grid(NamedTuple):
    """Current places of nodes and passing edges, and the room that each takes."""

    column: list[float]
    kind: list[_Kind]

    def sweep(self, rows: Sequence[list[int]], near: Mapping[int, list[int]], sort: bool = True) -> None:
        """Move the members of each row towards the middle of those that they are `near` to."""
        for members in rows:
            wish = {n: self._middle(near[n]) if near.get(n) else self.column[n] for n in members}
            if sort:
                members.sort(key=lambda n: (wish[n], n))
            for node, place in zip(members, _apart([(wish[n], self.kind[n]) for n in members])):
                self.column[node] = place

    def straighten(self, rows: Sequence[list[int]]) -> None:
        """Align all nodes that are alone in their row; later nodes move along."""
        shift = 0.0
        for members in rows:
            if len(members) == 1:
                shift = -self.column[members[0]]
            for node in members:
                self.column[node] += shift

    def _middle(self, others: Sequence[int]) -> float:
        return sum(self.column[n] * self.kind[n].weight for n in others) / sum(self.kind[n].weight for n in others)


def _apart(wishes: Sequence[tuple[float, _Kind]]) -> list[float]:
    """Return the places nearest to the wishes (least squares) in this order with room for each.

    Pool adjacent violators.
    """
    offsets = [0.0]
    for (_, left), (_, right) in pairwise(wishes):
        offsets.append(offsets[-1] + (left.room + right.room) / 2)
    pools: list[tuple[float, float, int]] = []  # weighted sum of wishes, weight, size
    for (wish, kind), offset in zip(wishes, offsets):
        pool = (wish - offset) * kind.weight, kind.weight, 1
        while pools and pools[-1][0] / pools[-1][1] >= pool[0] / pool[1]:
            last = pools.pop()
            pool = last[0] + pool[0], last[1] + pool[1], last[2] + pool[2]
        pools.append(pool)
    bases = [total / weight for total, weight, size in pools for _ in range(size)]
    return [base + offset for base, offset in zip(bases, offsets)]
