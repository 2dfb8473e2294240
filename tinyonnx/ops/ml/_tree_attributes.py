"""Ensembles of trees from the attributes of the operators of ai.onnx.ml."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.ml._common import FLOAT, Floats, Ints, Strings
from tinyonnx.ops.ml._trees import MISSING, MODES, Ensemble, Members, Trees, Votes
from tinyonnx.registry import Attributes

_KEPT = 8
"""Number of ensembles kept ready: converting their attributes, long Python lists, takes long."""


class NodeAttributes(Attributes):
    """The nodes of all trees of TreeEnsembleClassifier and TreeEnsembleRegressor."""

    nodes_falsenodeids: Ints = None
    nodes_featureids: Ints = None
    nodes_hitrates: Floats = None
    nodes_hitrates_as_tensor: Array | None = None
    nodes_missing_value_tracks_true: Ints = None
    nodes_modes: Strings = None
    nodes_nodeids: Ints = None
    nodes_treeids: Ints = None
    nodes_truenodeids: Ints = None
    nodes_values: Floats = None
    nodes_values_as_tensor: Array | None = None


class VoteAttributes(Attributes):
    """The votes of leaves for classes or targets: attributes that begin with `class_` or `target_`."""

    ids: Ints = None
    nodeids: Ints = None
    treeids: Ints = None
    weights: Floats = None
    weights_as_tensor: Array | None = None

    @classmethod
    def attribute_name(cls, parameter: str, field: str) -> str:
        """Return the ONNX attribute that holds a field; a parameter can't be called `class`, but `class_`."""
        return f"{parameter.rstrip('_')}_{field}"


class EnsembleAttributes(Attributes):
    """The nodes and leaves of all trees of TreeEnsemble."""

    leaf_targetids: Ints
    leaf_weights: Array
    membership_values: Array | None = None
    nodes_falseleafs: Ints
    nodes_falsenodeids: Ints
    nodes_featureids: Ints
    nodes_hitrates: Array | None = None
    nodes_missing_value_tracks_true: Ints = None
    nodes_modes: Array
    nodes_splits: Array
    nodes_trueleafs: Ints
    nodes_truenodeids: Ints
    tree_roots: Ints


class Same:
    """A key of attribute groups: equal only if their values are the same objects, which it keeps alive."""

    def __init__(self, *groups: Any) -> None:
        self.groups = groups
        self._values = [value for group in groups for value in vars(group).values()]

    def __hash__(self) -> int:
        return hash(tuple(map(id, self._values)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and all(a is b for a, b in zip(self._values, other._values, strict=True))


def _check_length(count: int, **columns: Array) -> None:
    for name, column in columns.items():
        if column.shape != (count,):
            raise OpError(f"{name} has shape {list(column.shape)}, should have {count} elements")


def _integers(values: Ints) -> Array:
    return np.array(values or [], np.int64)


def numbers(name: str, values: Floats, tensor: Array | None) -> Array:
    """Return a list of float32, or the tensor of its `_as_tensor` attribute."""
    if values and tensor is not None and tensor.size:
        raise OpError(f"{name} and {name}_as_tensor are both given")
    if tensor is None or not tensor.size:
        return np.array(values or [], FLOAT)
    if tensor.dtype.kind != "f" or tensor.ndim != 1:
        raise OpError(f"{name}_as_tensor must be a list of numbers, is {tensor.dtype}{list(tensor.shape)}")
    return tensor


# -- TreeEnsembleClassifier, TreeEnsembleRegressor -----------------------------------------


@dataclass(frozen=True)
class _Places:
    """An index of nodes by their ids: `order` sorts the pairs (tree, node), each combined into one number."""

    first: Array
    second: Array
    keys: Array
    order: Array

    @staticmethod
    def make(tree: Array, node: Array) -> _Places:
        first, a = np.unique(tree, return_inverse=True)
        second, b = np.unique(node, return_inverse=True)
        keys = a * len(second) + b
        order = np.argsort(keys, kind="stable")
        if (np.diff(keys[order]) == 0).any():
            twice = order[1:][np.diff(keys[order]) == 0][0]
            raise OpError(f"node {node[twice]} of tree {tree[twice]} is given twice")
        return _Places(first, second, keys[order], order)

    def find(self, tree: Array, node: Array, what: str) -> Array:
        """Return indices of the nodes. Raises OpError if one doesn't exist."""
        a = np.minimum(np.searchsorted(self.first, tree), len(self.first) - 1)
        b = np.minimum(np.searchsorted(self.second, node), len(self.second) - 1)
        at = np.minimum(np.searchsorted(self.keys, a * len(self.second) + b), len(self.keys) - 1)
        known = (self.first[a] == tree) & (self.second[b] == node)
        known &= self.keys[at] == a * len(self.second) + b
        if not known.all():
            lost = np.flatnonzero(~known)[0]
            raise OpError(f"{what} {node[lost]} of tree {tree[lost]} doesn't exist")
        return self.order[at]


def _roots(tree: Array, is_child: Array) -> Array:
    """Return the first node of every tree that is not a child of another; trees in the order of the nodes."""
    free = np.flatnonzero(~is_child)
    named, first = np.unique(tree[free], return_index=True)
    if len(named) < len(np.unique(tree)):
        raise OpError(f"tree {np.setdiff1d(tree, named)[0]} has no root: its nodes are a cycle")
    return np.sort(free[first])


@lru_cache(maxsize=_KEPT)
def classic_ensemble(key: Same, targets: int) -> Ensemble:
    """Return the ensemble of TreeEnsembleClassifier or TreeEnsembleRegressor.

    `key` has NodeAttributes and VoteAttributes.
    """
    nodes, votes = key.groups
    modes = nodes.nodes_modes
    tree, node, feature = map(_integers, (nodes.nodes_treeids, nodes.nodes_nodeids, nodes.nodes_featureids))
    true, false = _integers(nodes.nodes_truenodeids), _integers(nodes.nodes_falsenodeids)
    tracks = _integers(nodes.nodes_missing_value_tracks_true)
    value = numbers("nodes_values", nodes.nodes_values, nodes.nodes_values_as_tensor)
    count = len(tree)
    if not count:
        raise OpError("has no nodes")
    _check_length(count, nodes_nodeids=node, nodes_featureids=feature, nodes_truenodeids=true, nodes_falsenodeids=false)
    _check_length(count, nodes_values=value)
    if tracks.size:
        _check_length(count, nodes_missing_value_tracks_true=tracks)
    unknown = set(modes or ()) - (MODES.keys() - {"BRANCH_MEMBER"}) - {"LEAF"}
    if unknown or len(modes or ()) != count:
        raise OpError(f"{len(modes or ())} nodes_modes for {count} nodes, unknown: {sorted(unknown)}")
    accepts = np.array([MODES.get(mode, 0) for mode in modes], np.uint8)
    inner = np.flatnonzero(accepts)
    leaves = np.flatnonzero(accepts == 0)
    if tracks.size:
        accepts |= (tracks == 1) * np.uint8(MISSING)
    places = _Places.make(tree, node)
    number = np.empty(count, np.int64)
    number[inner] = np.arange(len(inner))
    number[leaves] = np.arange(len(inner), count)
    below = [places.find(tree[inner], ids[inner], "child node") for ids in (false, true)]
    is_child = np.zeros(count, np.bool_)
    is_child[np.concatenate(below)] = True
    trees = Trees.make(
        feature[inner],
        value[inner],
        accepts[inner],
        number[np.stack(below, axis=1)].reshape(-1),
        number[_roots(tree, is_child)],
    )
    vote_tree, vote_node, vote_id = map(_integers, (votes.treeids, votes.nodeids, votes.ids))
    weight = numbers("weights", votes.weights, votes.weights_as_tensor)
    _check_length(len(weight), treeids=vote_tree, nodeids=vote_node, ids=vote_id)
    voter = number[places.find(vote_tree, vote_node, "voting node")] - len(inner)
    counts = voter >= 0  # votes of inner nodes are ignored
    return Ensemble.make(trees, Votes.make(voter[counts], vote_id[counts], weight[counts], len(leaves), targets))


# -- TreeEnsemble -------------------------------------------------------------------------


def _wide(tensor: Array, what: str) -> Array:
    """Return a floating-point tensor attribute; float16 is converted to float32."""
    if tensor.dtype.kind != "f":
        raise OpError(f"{what} must be floating-point numbers, are {tensor.dtype}")
    return tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor


def _below(ids: Ints, are_leaves: Ints, nodes: int, leaves: int, what: str) -> Array:
    """Return indices of children, where leaves are numbered after all nodes."""
    child, is_leaf = _integers(ids), _integers(are_leaves)
    _check_length(nodes, **{f"nodes_{what}nodeids": child, f"nodes_{what}leafs": is_leaf})
    wrong = (child < 0) | (child >= np.where(is_leaf != 0, leaves, nodes))
    if wrong.any():
        raise OpError(f"{what} child {child[wrong][0]} is out of range for {nodes} nodes and {leaves} leaves")
    return child + np.where(is_leaf != 0, nodes, 0)


def _member_sets(values: Array | None, count: int) -> list[Array]:
    """Return the sets of members, which NaNs separate or terminate."""
    values = np.empty(0) if values is None else _wide(values, "membership_values")
    if values.ndim != 1:
        raise OpError(f"membership_values must be a list, has shape {list(values.shape)}")
    ends = np.flatnonzero(np.isnan(values))
    sets = [part[~np.isnan(part)] for part in np.split(values, ends)]
    if len(sets) == count + 1 and not sets[-1].size:
        sets.pop()
    if len(sets) != count:
        raise OpError(f"membership_values has {len(sets)} sets for {count} nodes of mode BRANCH_MEMBER")
    return sets


@lru_cache(maxsize=_KEPT)
def ensemble_5(key: Same, targets: int) -> Ensemble:
    """Return the ensemble of TreeEnsemble; `key` has EnsembleAttributes.

    Raises OpError if the attributes describe no ensemble.
    """
    (given,) = key.groups
    modes, splits = given.nodes_modes, given.nodes_splits
    feature, target, roots = map(_integers, (given.nodes_featureids, given.leaf_targetids, given.tree_roots))
    tracks = _integers(given.nodes_missing_value_tracks_true)
    nodes, leaves = len(feature), len(target)
    weight = _wide(given.leaf_weights, "leaf_weights")
    _check_length(leaves, leaf_weights=weight)
    _check_length(nodes, nodes_modes=modes, nodes_splits=splits)
    if tracks.size:
        _check_length(nodes, nodes_missing_value_tracks_true=tracks)
    if not roots.size or roots.min() < 0 or roots.max() >= nodes:
        raise OpError(f"tree_roots {roots[:9].tolist()} should be some of the {nodes} nodes")
    if modes.dtype.kind not in "iu" or modes.min() < 0 or modes.max() >= len(MODES):
        raise OpError(f"nodes_modes must be 0 to {len(MODES) - 1}, are {modes.dtype} up to {modes.max()}")
    accepts = np.array(list(MODES.values()), np.uint8)[modes]
    if tracks.size:
        accepts |= (tracks == 1) * np.uint8(MISSING)
    is_member = modes == list(MODES).index("BRANCH_MEMBER")
    sets = None
    if is_member.any():
        of_node = np.where(is_member, np.cumsum(is_member) - 1, -1)
        sets = Members.make(of_node, _member_sets(given.membership_values, int(is_member.sum())))
    false = _below(given.nodes_falsenodeids, given.nodes_falseleafs, nodes, leaves, "false")
    true = _below(given.nodes_truenodeids, given.nodes_trueleafs, nodes, leaves, "true")
    children = np.stack([false, true], axis=1).reshape(-1)
    trees = Trees.make(feature, _wide(splits, "nodes_splits"), accepts, children, roots, sets)
    return Ensemble.make(trees, Votes.make(np.arange(leaves), target, weight, leaves, targets))
