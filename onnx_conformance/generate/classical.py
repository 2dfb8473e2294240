"""Families of classical machine learning, whose attributes hold the model: rows, linear models and trees."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_conformance.generate.draws import Random, RandomNode, coin, floats, one, optional, whole
from onnx_conformance.generate.sample import ML

_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")


def rows(r: Random) -> RandomNode:
    """Add functions of each row or number; few different numbers, of both signs."""
    x = np.round(2 * floats(r, int(whole(r, 1, 4)), width := int(whole(r, 1, 9)))) / np.float32(2)
    match one(r, "Normalizer", "Normalizer", "Scaler", "Binarizer"):
        case "Normalizer":
            x[:, 0] += np.float32(0.25)  # a row of zeros is undefined
            return RandomNode("Normalizer", [x], {"norm": one(r, "L1", "L2", "MAX")}, opset=1, domain=ML)
        case "Scaler":
            count = one(r, 1, width)
            attributes = {name: r.uniform(-2, 2, count).tolist() for name in ("offset", "scale")}
            return RandomNode("Scaler", [x], attributes, opset=1, domain=ML)
        case _:
            attributes = {"threshold": float(one(r, 0.0, 0.5, -1.0))}
            return RandomNode("Binarizer", [x], attributes, opset=1, domain=ML)


def linear_regressor(r: Random) -> RandomNode:
    width, targets = int(whole(r, 1, 9)), int(whole(r, 1, 3))
    attributes: dict[str, Any] = {"coefficients": r.uniform(-1, 1, width * targets).tolist(), "targets": targets}
    if coin(r):
        attributes["intercepts"] = r.uniform(-1, 1, targets).tolist()
    x = floats(r, int(whole(r, 1, 4)), width)
    return RandomNode("LinearRegressor", [x], attributes, opset=1, domain=ML)


def trees(r: Random) -> RandomNode:
    """Add a TreeEnsembleRegressor; thresholds are among the numbers, so that the comparisons meet equal ones."""
    width, targets = int(whole(r, 1, 4)), int(whole(r, 1, 3))
    nodes: dict[str, list[Any]] = {name: [] for name in (
        "treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids",
        "missing_value_tracks_true",
    )}  # fmt: skip
    leaves: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
    mode = one(r, *_MODES)
    for tree in range(int(whole(r, 1, 3))):
        depth = int(whole(r, 0, 3))
        inner = 2**depth - 1
        for i in range(2 * inner + 1):
            below = (2 * i + 1, 2 * i + 2) if i < inner else (0, 0)
            test = (mode if coin(r) else one(r, *_MODES)) if i < inner else "LEAF"
            row = (tree, i, int(whole(r, 0, width - 1)), float(whole(r, -4, 4)) / 2, test, *below, int(whole(r, 0, 1)))
            for name, value in zip(nodes, row):
                nodes[name].append(value)
            if i >= inner:
                for name, value in zip(leaves, (tree, i, len(leaves["ids"]) % targets, float(r.standard_normal()))):
                    leaves[name].append(value)
    targets = max(leaves["ids"]) + 1
    if coin(r):
        del nodes["missing_value_tracks_true"]
    attributes = {f"nodes_{name}": values for name, values in nodes.items()} | {"n_targets": targets}
    attributes |= {f"target_{name}": values for name, values in leaves.items()}
    attributes |= optional(r, aggregate_function=one(r, "SUM", "AVERAGE", "MIN", "MAX"))
    if targets == 1:  # onnxruntime leaves base values out for rows that reach no leaf of a target
        attributes |= optional(r, base_values=r.uniform(-1, 1, targets).tolist())
    x = np.round(2 * floats(r, int(whole(r, 1, 20)), width)) / np.float32(2)
    return RandomNode("TreeEnsembleRegressor", [x], attributes, opset=3, domain=ML)
