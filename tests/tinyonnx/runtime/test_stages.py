"""Graphs in stages give the results of a session that optimises nothing, whatever sizes their data lead to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import tinyonnx
from tinyonnx.codegen.kernel import DISABLED
from tinyonnx.ir import Array
from tinyonnx.limits import Limits
from tinyonnx.onnxfile import graph_cache
from tinyonnx.ort.stages import Stages
from tinyonnx.runtime.plan import KernelStep

HEAD = '<ir_version: 8, opset_import: ["": 17]>\n'

BOXES = """g (float[1, N, 4] boxes, float[1, 2, N] scores)
    => (float[1, K, 4] found, float[1, 2, 2] top, int64[R, 3] kept)
    <int64[1] most = {4}, float[1] overlap = {0.5}, float[1] least = {0.4}, int64[1] two = {2}, int64[1] three = {3},
     int64[1] one = {1}> {
    likely = Sigmoid (scores)
    kept = NonMaxSuppression (boxes, likely, most, overlap, least)
    column = Slice (kept, two, three, one)
    rows = Squeeze (column, one)
    found = Gather <axis = 1> (boxes, rows)
    top, places = TopK (likely, two)
}"""

LAST = """g (float[1, N, 4] boxes, float[1, 2, N] scores) => (int64[R, 3] kept, float[1, 2, N] likely)
    <int64[1] most = {3}, float[1] overlap = {0.5}> {
    likely = Sigmoid (scores)
    kept = NonMaxSuppression (boxes, likely, most, overlap)
}"""

CHAIN = """g (float[N, 6] x, float[N, 6] w) => (float[P, 6] y, int64[Q, 2] places, float[N, 6] z, int64 size)
    <float zero = {0.0}, float half = {0.5}, int64[1] last = {1}, float[6] m = {1.0, 0.5, -1.0, 2.0, 0.25, 1.5}> {
    z = Relu (w)
    sums = ReduceSum <keepdims = 0> (x, last)
    above = Greater (sums, zero)
    chosen = Compress <axis = 0> (x, above)
    scaled = Mul (chosen, m)
    large = Greater (scaled, half)
    indices = NonZero (large)
    places = Transpose <perm = [1, 0]> (indices)
    all = Concat <axis = 0> (scaled, z)
    y = Tanh (all)
    n = Shape (z)
    spread = Expand (half, n)
    more = Concat <axis = 0> (scaled, spread)
    size = Size (more)
}"""

SHAPED = """g (float[N, 6] x, int64[2] shape) => (float[A, B] y, float[N, 6] z) <int64 first = {0}> {
    z = Sigmoid (x)
    changed = Reshape (z, shape)
    softened = Softmax (changed)
    parts = SplitToSequence <keepdims = 0> (softened)
    row = SequenceAt (parts, first)
    negated = Neg (row)
    y = Add (softened, negated)
}"""

DECIDED = """g (float[N, 6] x) => (float[A, 6] y) <float zero = {0.0}, int64 none = {0}, int64[1] last = {1}> {
    sums = ReduceSum <keepdims = 0> (x, last)
    above = Greater (sums, zero)
    chosen = Compress <axis = 0> (x, above)
    size = Size (chosen)
    found = Greater (size, none)
    picked = If (found) <then_branch = then () => (float[C, 6] p) { p = Exp (chosen) },
                         else_branch = other () => (float[D, 6] q) { q = Neg (x) }>
    y = Tanh (picked)
}"""


def content(text: str) -> bytes:
    model = onnx.parser.parse_model(HEAD + text)
    return model.SerializeToString()


def boxes(n: int, seed: int, shift: float = 0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    corners = random.random((1, n, 2), np.float32)
    scores = random.standard_normal((1, 2, n)).astype(np.float32) + np.float32(shift)
    return {"boxes": np.concatenate([corners, corners + np.float32(0.3)], axis=2), "scores": scores}


def rows(n: int, seed: int, share: float = 0.5) -> dict[str, Array]:
    """Return rows of which this share has a positive sum."""
    random = np.random.default_rng(seed)
    signs = np.where(np.arange(n) < share * n, 1, -1)[:, None]
    x = (np.abs(random.standard_normal((n, 6))) * random.permutation(signs)).astype(np.float32)
    return {"x": x, "w": random.standard_normal((n, 6)).astype(np.float32)}


def shaped(a: int, b: int) -> dict[str, Array]:
    return {"x": rows(a * b // 6, a)["x"], "shape": np.array([a, b])}


CASES: dict[str, tuple[str, list[dict[str, Array]]]] = {
    "boxes": (
        BOXES,
        [boxes(n, n, s) for n, s in ((40, 0), (40, -9), (7, 0), (40, 2), (2, 9), (90, 0), (40, 0))],
    ),
    "last": (LAST, [boxes(n, n) for n in (40, 7, 40, 1, 90)]),
    "chain": (
        CHAIN,
        [
            rows(n, n, s)
            for n, s in ((9, 0.5), (9, 0), (9, 0.1), (20, 0.7), (1, 1), (1, 0), (33, 1), (9, 0.5), (5, 0.4))
        ],
    ),
    "shaped": (SHAPED, [shaped(*each) for each in ((4, 6), (3, 8), (12, 2), (1, 6), (6, 1), (5, 12), (4, 6))]),
    "decided": (DECIDED, [{"x": rows(n, n, s)["x"]} for n, s in ((9, 0.5), (9, 0), (4, 0), (9, 1), (2, 0.5))]),
}


def options(limits: Limits | None = None, threads: int = 1) -> tinyonnx.SessionOptions:
    found = tinyonnx.SessionOptions()
    found.intra_op_num_threads = threads
    found.limits = limits or found.limits
    return found


def expected(model: bytes, feeds: dict[str, Array], names: list[str] | None = None) -> list[Any]:
    unoptimised = options()
    unoptimised.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    found: list[Any] = tinyonnx.InferenceSession(model, unoptimised).run(names, feeds)
    return found


def check(
    here: tinyonnx.InferenceSession, model: bytes, feeds: dict[str, Array], names: list[str] | None = None
) -> None:
    for a, b in zip(here.run(names, feeds), expected(model, feeds, names), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6, strict=True)


def stages_of(here: Any) -> list[Stages]:
    return [stages for stages in here._stages.values() if stages is not None]


def parts_of(here: Any) -> list[Any]:
    """Return the sessions that run no stages."""
    stages = stages_of(here)
    if not stages:
        return [here]
    return [part for each in stages for one in (each.first, each.second) if one is not None for part in parts_of(one)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("threads", [1, 2])
def test_results(case: str, threads: int) -> None:
    text, feeds = CASES[case]
    model = content(text)
    session = tinyonnx.InferenceSession(model, options(threads=threads))
    for each in feeds:
        for _ in range(2):  # the second time by the types of the feeds
            check(session, model, each)
    assert len(parts_of(session)) == {"boxes": 2, "last": 1, "chain": 3, "shaped": 4, "decided": 2}[case]


@pytest.mark.skipif(DISABLED, reason="stored plans need machine code")
@pytest.mark.parametrize("case", CASES)
def test_stored_plans(folder: Path, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_cache, "_SMALL", 0)
    text, feeds = CASES[case]
    path = tmp_path / "model.onnx"
    path.write_bytes(content(text))
    for first in (feeds[0], *feeds):
        session = tinyonnx.InferenceSession(path, options())
        check(session, path.read_bytes(), first)
        check(session, path.read_bytes(), feeds[0])
    again = tinyonnx.InferenceSession(path, options())
    again.run(None, feeds[0])
    for part in parts_of(again):
        assert "_preparation" not in vars(part) or case in ("shaped", "decided"), "the plan is stored"
    assert "_preparation" not in vars(again)


@pytest.mark.skipif(DISABLED, reason="without the JIT every size has a plan of its own")
def test_one_plan_for_every_number_of_rows() -> None:
    session = tinyonnx.InferenceSession(content(BOXES), options())
    for n, shift in ((40, 0), (50, 1), (60, 2), (70, -1), (80, 0)):
        session.run(None, boxes(n, n, shift))
    for part in parts_of(session):
        (plans,) = part._sized.values()
        assert len(plans._plans) == 1
        assert all(isinstance(step, KernelStep) for step in plans._plans[0].plan.steps)


def test_selection_by_parameters_of_a_run() -> None:
    text = LAST.replace("scores) =>", "scores, float[1] overlap) =>").replace(", float[1] overlap = {0.5}", "")
    model = content(text)
    session = tinyonnx.InferenceSession(model, options())
    for n, overlap in ((40, 0.5), (40, 0), (7, 0.9), (40, 0.5)):
        check(session, model, {**boxes(n, n), "overlap": np.array([overlap], np.float32)})
    nodes = {node.op_type for part in parts_of(session) for node in part.graph.nodes}
    assert nodes == {"Sigmoid", "NonMaxSuppression"}, "there is no kernel for the bounded form"


def test_requested_tensors() -> None:
    model = content(CHAIN)
    session = tinyonnx.InferenceSession(model, options())
    for names in (["scaled"], ["sums", "indices"], ["z"], ["chosen", "y", "above", "chosen"], ["x", "y"]):
        for feeds in (rows(9, 9), rows(9, 9, 0), rows(20, 20)):
            check(session, model, feeds, names)


def test_results_are_the_callers() -> None:
    session = tinyonnx.InferenceSession(content(LAST), options())
    for _ in range(3):
        kept, _ = session.run(None, boxes(40, 40))
        assert kept.base is None
        assert kept.flags.writeable
        expected_rows = kept.copy()
        session.run(None, boxes(40, 41))
        np.testing.assert_array_equal(kept, expected_rows)
        kept[:] = 0


def test_sequences_are_the_callers() -> None:
    text = """g (float[N, 6] x) => (seq(float[6]) parts, seq(float[N, 6]) whole, float[M, 6] y)
        <float zero = {0.0}, int64[1] last = {1}> {
        z = Relu (x)
        sums = ReduceSum <keepdims = 0> (x, last)
        above = Greater (sums, zero)
        chosen = Compress <axis = 0> (z, above)
        y = Tanh (chosen)
        parts = SplitToSequence <keepdims = 0> (z)
        whole = SequenceConstruct (z, chosen, y)
    }"""
    session = tinyonnx.InferenceSession(content(text), options())
    for _ in range(3):
        feeds = {"x": rows(9, 1)["x"]}
        parts, whole, y = session.run(None, feeds)
        kept = [each.copy() for each in (*parts, *whole, y)]
        session.run(None, {"x": rows(9, 2)["x"]})
        for a, b in zip((*parts, *whole, y), kept, strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(parts, np.maximum(feeds["x"], 0))
        np.testing.assert_array_equal(whole[0], np.maximum(feeds["x"], 0))


def test_errors_are_those_of_the_nodes() -> None:
    text = BOXES.replace(
        "found = Gather <axis = 1> (boxes, rows)",
        "more = Add (rows, rows)\n    found = Gather <axis = 1> (boxes, more)",
    )
    session = tinyonnx.InferenceSession(content(text), options())
    for _ in range(3):
        with pytest.raises(
            tinyonnx.NodeError, match=r'<bytes>: Gather "found" \(node 5, opset 17\): .*out of range for 40'
        ):
            session.run(None, boxes(40, 40))
    few = boxes(40, 40)
    few["scores"][:, :, 3:] = -9
    check(session, content(text), few)


def test_limits_count_for_all_stages() -> None:
    feeds = rows(4000, 1)
    session = tinyonnx.InferenceSession(content(CHAIN), options(Limits(max_run_bytes=400_000)))
    for _ in range(2):
        with pytest.raises(tinyonnx.ResourceError, match="max_run_bytes is 400000"):
            session.run(None, feeds)
    session = tinyonnx.InferenceSession(content(CHAIN), options(Limits(max_seconds=1e-9)))
    with pytest.raises(tinyonnx.ResourceError, match="max_seconds"):
        session.run(None, feeds)


def test_runs_at_once() -> None:
    model = content(BOXES)
    session = tinyonnx.InferenceSession(model, options())
    feeds = [boxes(n, n) for n in (40, 7, 40, 90, 41, 8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda each: session.run(None, each), feeds * 8))
    for results, each in zip(found, feeds * 8, strict=True):
        for a, b in zip(results, expected(model, each), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6)


def test_the_nodes_of_a_trace_are_those_of_the_file() -> None:
    model = content(BOXES)
    session = tinyonnx.InferenceSession(model, options())
    session.run(None, boxes(40, 40))
    assert "NonMaxSuppression" in {node.op_type for node, _ in session.trace(boxes(40, 40))}
