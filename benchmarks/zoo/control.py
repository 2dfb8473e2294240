"""Small models: control flow, trees, and pre- and postprocessing operators, each run in well under a millisecond."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.zoo import Model, noise, zoo_model
from benchmarks.zoo._builder import Builder, Result

FLOAT, INT, BOOL = np.float32, np.int64, np.bool_


@zoo_model("loop")
def loop() -> Model:
    """Build a Loop of a thousand iterations of two small nodes."""
    b = Builder()
    b.add("Identity", "going")
    b.nodes[-1].output[0] = "still"
    grown = b.add("Add", b.add("Mul", "v", b.constant(FLOAT(0.99))), b.constant(FLOAT(0.01)))
    body = b.body(
        "body", {"i": (INT, []), "going": (BOOL, []), "v": (FLOAT, [4, 8])}, Result("still", 0, BOOL), Result(grown, 2)
    )
    y = b.add("Loop", b.constant(np.array(1000)), "", "x", body=body)
    return b.content({"x": (FLOAT, [4, 8])}, Result(y, 2)), {"x": noise(4, 8)}


@zoo_model("greedy-decoder")
def greedy_decoder() -> Model:
    """Build a Loop that outputs up to 40 words until one has a low score, with an embedding and a GRU cell."""
    b = Builder()
    x = b.add("Reshape", b.add("Gather", b.normal(100, 64), "word"), b.constant(np.array([1, 64], INT)))
    gates = b.linear(b.add("Concat", x, "state", axis=1), 128, 128)
    update = b.add("Split", b.add("Sigmoid", gates), outputs=2, axis=1)
    new = b.add("Tanh", b.linear(b.add("Concat", x, b.add("Mul", f"{update}_1", "state"), axis=1), 128, 64))
    kept = b.add("Mul", b.add("Sub", b.constant(FLOAT(1)), update), "state")
    state = b.add("Add", kept, b.add("Mul", update, new))
    scores = b.linear(state, 64, 100)
    word = b.add("ArgMax", scores, axis=1, keepdims=0)
    best = b.add("ReduceMax", scores, keepdims=0)
    going = b.add("Greater", best, b.constant(FLOAT(-5)))
    said = b.add("Identity", word)
    inputs = {"i": (INT, []), "going": (BOOL, []), "word": (INT, [1]), "state": (FLOAT, [1, 64])}
    body = b.body("body", inputs, Result(going, 0, BOOL), Result(word, 1, INT), Result(state, 2), Result(said, 1, INT))
    start = b.constant(np.array([0], INT))
    first = b.add("Loop", b.constant(np.array(40)), "", start, "x", outputs=3, body=body)
    return b.content({"x": (FLOAT, [1, 64])}, Result(f"{first}_1", 2), Result(f"{first}_2", 2, INT)), {
        "x": noise(1, 64)
    }


@zoo_model("scan")
def scan() -> Model:
    """Build a Scan over 50 steps of a recurrent cell, as exporters write cells without an operator."""
    b = Builder()
    state = b.add("Tanh", b.add("Add", b.linear("x", 32, 48), b.linear("state", 48, 48)))
    output = b.add("Identity", state)
    body = b.body("body", {"state": (FLOAT, [1, 48]), "x": (FLOAT, [1, 32])}, Result(state, 2), Result(output, 2))
    first = b.add("Scan", "h", "xs", outputs=2, body=body, num_scan_inputs=1)
    content = b.content({"h": (FLOAT, [1, 48]), "xs": (FLOAT, [50, 1, 32])}, Result(first, 2), Result(f"{first}_1", 3))
    return content, {"h": noise(1, 48), "xs": noise(50, 1, 32)}


@zoo_model("branches")
def branches() -> Model:
    """Build four Ifs, each decided by the mean of the previous result."""
    b = Builder()
    x = "x"
    for _ in range(4):
        outer, b.nodes = b.nodes, []
        y = b.add("Relu", b.linear(x, 32, 32))
        then = b.body("then", {}, Result(y, 2))
        y = b.add("Tanh", b.linear(x, 32, 32))
        other = b.body("else", {}, Result(y, 2))
        b.nodes = outer
        above = b.add("Greater", b.add("ReduceMean", x, keepdims=0), b.constant(FLOAT(0)))
        x = b.add("If", above, then_branch=then, else_branch=other)
    return b.content({"x": (FLOAT, [1, 32])}, Result(x, 2)), {"x": noise(1, 32)}


def _trees(b: Builder, trees: int, depth: int, features: int) -> dict[str, Any]:
    """Return the attributes of random complete trees, without their leaves' votes."""
    found: dict[str, list[Any]] = {}
    inner = 2**depth - 1
    for tree in range(trees):
        for node in range(2 * inner + 1):
            leaf = node >= inner
            row = {
                "treeids": tree, "nodeids": node, "featureids": 0 if leaf else int(b.random.integers(features)),
                "values": 0.0 if leaf else float(FLOAT(b.random.standard_normal())),
                "truenodeids": 0 if leaf else 2 * node + 1, "falsenodeids": 0 if leaf else 2 * node + 2,
                "modes": "LEAF" if leaf else "BRANCH_LEQ",
            }  # fmt: skip
            for name, value in row.items():
                found.setdefault(f"nodes_{name}", []).append(value)
    return found


def _leaves(trees: int, depth: int) -> list[tuple[int, int]]:
    return [(tree, node) for tree in range(trees) for node in range(2**depth - 1, 2 ** (depth + 1) - 1)]


@zoo_model("trees")
def trees() -> Model:
    """Build a random forest of 100 trees of depth 6 for three classes, with scaled inputs: one row."""
    b = Builder()
    attributes = _trees(b, 100, 6, 20)
    leaves = _leaves(100, 6)
    attributes |= {
        "class_treeids": [tree for tree, _ in leaves], "class_nodeids": [node for _, node in leaves],
        "class_ids": [int(b.random.integers(3)) for _ in leaves], "class_weights": [0.01] * len(leaves),
    }  # fmt: skip
    x = b.add("Scaler", "x", domain="ai.onnx.ml", offset=[0.1] * 20, scale=[1.5] * 20)
    label = b.add(
        "TreeEnsembleClassifier", x, outputs=2, domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2],
        post_transform="NONE", **attributes,
    )  # fmt: skip
    content = b.content(
        {"x": (FLOAT, ["rows", 20])}, Result(label, 1, INT), Result(f"{label}_1", 2), domains=["ai.onnx.ml"]
    )
    return content, {"x": noise(1, 20)}


@zoo_model("boosted-trees")
def boosted_trees() -> Model:
    """Build a sum of 300 trees of depth 4: 64 rows."""
    b = Builder()
    attributes = _trees(b, 300, 4, 12)
    leaves = _leaves(300, 4)
    attributes |= {
        "target_treeids": [tree for tree, _ in leaves], "target_nodeids": [node for _, node in leaves],
        "target_ids": [0] * len(leaves),
        "target_weights": (b.random.standard_normal(len(leaves)) / 9).astype(np.float32).tolist(),
    }  # fmt: skip
    y = b.add("TreeEnsembleRegressor", "x", domain="ai.onnx.ml", n_targets=1, post_transform="NONE", **attributes)
    return b.content({"x": (FLOAT, ["rows", 12])}, Result(y, 2), domains=["ai.onnx.ml"]), {"x": noise(64, 12)}


@zoo_model("perceptron")
def perceptron() -> Model:
    """Build three small layers and a softmax, run on one row."""
    b = Builder()
    x = b.add("Relu", b.linear(b.add("Relu", b.linear("x", 16, 32)), 32, 32))
    y = b.add("Softmax", b.linear(x, 32, 4), axis=-1)
    return b.content({"x": (FLOAT, ["rows", 16])}, Result(y, 2)), {"x": noise(1, 16)}


@zoo_model("detections")
def detections() -> Model:
    """Build the end of a detector: scores of 200 boxes, suppression of overlapping ones, and selection of the rest."""
    b = Builder()
    x = b.add("Sigmoid", "scores")
    one = [b.constant(np.array([value], kind)) for value, kind in ((20, INT), (0.5, FLOAT), (0.6, FLOAT))]
    kept = b.add("NonMaxSuppression", "boxes", x, *one)
    rows = b.add("Slice", kept, *(b.constant(np.array([n], INT)) for n in (2, 3, 1)))
    rows = b.add("Squeeze", rows, b.constant(np.array([1], INT)))
    found = b.add("Gather", "boxes", rows, axis=1)
    top = b.add("TopK", x, b.constant(np.array([5], INT)), outputs=2, axis=2)
    corners = np.random.default_rng(4).random((1, 200, 2), np.float32)
    boxes = np.concatenate([corners, corners + np.float32(0.15)], axis=2)
    inputs = {"boxes": (FLOAT, [1, 200, 4]), "scores": (FLOAT, [1, 2, 200])}
    content = b.content(inputs, Result(found, 3), Result(top, 3), Result(f"{top}_1", 3, INT))
    return content, {"boxes": boxes, "scores": noise(1, 2, 200)}


@zoo_model("indexing")
def indexing() -> Model:
    """Build lookups with computed indices, running sums, scattered updates and an Einsum over small tensors."""
    b = Builder()
    rows = b.add("Gather", "table", "indices")
    sums = b.add("CumSum", rows, b.constant(np.array(0)))
    mixed = b.add("Einsum", sums, b.normal(16, 16), equation="td,de->te")
    column = b.add("Unsqueeze", "indices", b.constant(np.array([1], INT)))
    written = b.add("ScatterND", "table", column, mixed)
    y = b.add("GatherElements", written, b.add("Expand", column, b.constant(np.array([12, 16], INT))), axis=0)
    indices = np.random.default_rng(5).permutation(64)[:12]
    content = b.content({"table": (FLOAT, [64, 16]), "indices": (INT, [12])}, Result(written, 2), Result(y, 2))
    return content, {"table": noise(64, 16), "indices": indices}
