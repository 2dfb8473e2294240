"""Random decision trees, their attributes in both encodings, and their results by walking one row down one tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER"]
TESTS = [
    lambda x, t: x <= t,
    lambda x, t: x < t,
    lambda x, t: x >= t,
    lambda x, t: x > t,
    lambda x, t: x == t,
    lambda x, t: x != t,
    lambda x, t: x in t,
]


@dataclass
class Leaf:
    votes: list[tuple[int, float]]


@dataclass
class Branch:
    mode: str
    feature: int
    value: Any
    missing: bool
    true: Branch | Leaf
    false: Branch | Leaf


def grow(rng: Any, depth: int, votes: Any, modes: list[str], features: int = 3, missing: bool = False) -> Branch | Leaf:
    """Return a random tree; `votes(rng)` makes a leaf's. Thresholds are among -1, 0 and 1, so that equality happens."""
    if depth == 0 or rng.random() < 0.15:
        return Leaf(votes(rng))
    mode = str(rng.choice(modes))
    value = rng.integers(-1, 2, 3).tolist() if mode == "BRANCH_MEMBER" else float(rng.integers(-1, 2))
    below = [grow(rng, depth - 1, votes, modes, features, missing) for _ in range(2)]
    return Branch(mode, int(rng.integers(features)), value, missing and rng.random() < 0.5, below[0], below[1])


def leaf_of(tree: Branch | Leaf, row: Any) -> Leaf:
    while isinstance(tree, Branch):
        x = row[tree.feature]
        true = tree.missing if np.isnan(x) else TESTS[MODES.index(tree.mode)](x, tree.value)
        tree = tree.true if true else tree.false
    return tree


def scores_of(trees: list[Any], x: Any, targets: int, aggregate: str = "SUM") -> Any:
    """Return scores [rows, targets] in float64."""
    scores = np.zeros((len(x), targets))
    for i, row in enumerate(x):
        said: list[list[float]] = [[] for _ in range(targets)]
        for tree in trees:
            for target, weight in leaf_of(tree, row).votes:
                said[target].append(weight)
        for target, weights in enumerate(said):
            if weights:
                reduce = {"SUM": sum, "AVERAGE": lambda w: sum(w) / len(trees), "MIN": min, "MAX": max}[aggregate]
                scores[i, target] = reduce(weights)
    return scores


def classic(trees: list[Any], kind: str) -> dict[str, Any]:
    """Return attributes of TreeEnsembleClassifier (`kind` "class") or TreeEnsembleRegressor ("target")."""
    nodes: dict[str, list[Any]] = {
        f"nodes_{n}": [] for n in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    } | {"nodes_missing_value_tracks_true": []}
    votes: dict[str, list[Any]] = {f"{kind}_{n}": [] for n in ("treeids", "nodeids", "ids", "weights")}

    def add(tree: Branch | Leaf, t: int, count: list[int]) -> int:
        at, here = len(nodes["nodes_nodeids"]), count[0]
        count[0] += 1
        leaf = isinstance(tree, Leaf)
        entry = (t, here, 0, 0.0, "LEAF", 0, 0, 0)
        if not leaf:
            entry = (t, here, tree.feature, tree.value, tree.mode, 0, 0, int(tree.missing))
        for column, value in zip(nodes.values(), entry, strict=True):
            column.append(value)
        if leaf:
            for target, weight in tree.votes:
                for column, value in zip(votes.values(), (t, here, target, weight), strict=True):
                    column.append(value)
        else:
            nodes["nodes_truenodeids"][at] = add(tree.true, t, count)
            nodes["nodes_falsenodeids"][at] = add(tree.false, t, count)
        return here

    for t, tree in enumerate(trees):
        add(tree, t, [0])
    return nodes | votes


def modern(trees: list[Any], dtype: Any) -> dict[str, Any]:
    """Return attributes of TreeEnsemble; leaves have one vote each."""
    nodes: dict[str, list[Any]] = {
        f"nodes_{n}": []
        for n in ("featureids", "splits", "modes", "truenodeids", "trueleafs", "falsenodeids", "falseleafs")
    } | {"nodes_missing_value_tracks_true": []}
    leaves: list[tuple[int, float]] = []
    members: list[float] = []

    def add(tree: Branch | Leaf) -> tuple[int, int]:
        if isinstance(tree, Leaf):
            leaves.extend(tree.votes)
            return len(leaves) - 1, 1
        at = len(nodes["nodes_modes"])
        is_member = tree.mode == "BRANCH_MEMBER"
        split = 0.0 if is_member else tree.value
        entry = (tree.feature, split, MODES.index(tree.mode), 0, 0, 0, 0, int(tree.missing))
        for column, value in zip(nodes.values(), entry, strict=True):
            column.append(value)
        if is_member:
            members.extend([*tree.value, float("nan")])
        for branch, child in (("true", tree.true), ("false", tree.false)):
            nodes[f"nodes_{branch}nodeids"][at], nodes[f"nodes_{branch}leafs"][at] = add(child)
        return at, 0

    roots = []
    for tree in trees:
        if isinstance(tree, Leaf):  # has to be written as a branch to the same leaf twice
            tree = Branch("BRANCH_LEQ", 0, 0.0, False, tree, tree)
        roots.append(add(tree)[0])

    def tensor(values: list[Any], kind: Any) -> onnx.TensorProto:
        return onnx.numpy_helper.from_array(np.array(values, kind))

    attributes = nodes | {
        "tree_roots": roots,
        "nodes_splits": tensor(nodes["nodes_splits"], dtype),
        "nodes_modes": tensor(nodes["nodes_modes"], np.uint8),
        "leaf_targetids": [target for target, _ in leaves],
        "leaf_weights": tensor([weight for _, weight in leaves], dtype),
    }
    return attributes | ({"membership_values": tensor(members, dtype)} if members else {})
