"""Where the nodes of a graph stand in a picture."""

from __future__ import annotations

from collections.abc import Sequence


def layout(count: int, edges: Sequence[tuple[int, int]]) -> list[tuple[float, int]]:
    """A (column, row) for each of `count` nodes in executable order.

    A node's row is the longest way to it (layers as in Sugiyama, Tagawa and Toda 1981). In a
    row nodes stand one column apart, in the order of the middle of those that they read.
    """
    before: list[list[int]] = [[] for _ in range(count)]
    for source, target in edges:
        before[target].append(source)
    row = [0] * count
    for node in range(count):
        row[node] = max((row[source] + 1 for source in before[node]), default=0)
    column = [0.0] * count
    rows: dict[int, list[int]] = {}
    for node in range(count):
        rows.setdefault(row[node], []).append(node)
    for _, members in sorted(rows.items()):
        wish = {n: sum(column[s] for s in before[n]) / len(before[n]) if before[n] else 0.0 for n in members}
        members.sort(key=lambda n: (wish[n], n))
        place = [wish[n] for n in members]
        for i in range(1, len(place)):
            place[i] = max(place[i], place[i - 1] + 1)
        shift = sum(wish[n] - p for n, p in zip(members, place)) / len(place)
        for n, p in zip(members, place):
            column[n] = round(p + shift, 3)
    return list(zip(column, row))
