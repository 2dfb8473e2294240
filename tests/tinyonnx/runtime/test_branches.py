"""If whose branches are steps of the plan: the results of a session that optimises nothing, whatever is taken."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import pytest

import tinyonnx
from tinyonnx.cli import main
from tinyonnx.errors import NodeError
from tinyonnx.runtime.plan import BranchStep, KernelStep, NumpyStep

HEAD = '<ir_version: 8, opset_import: ["": 17]>'

NESTED = """g (float[B, 4] x, bool a, bool b) => (float[B, 4] y, float[B, 4] z) {
    y = If (a) <
        then_branch = then () => (float[B, 4] p) {
            h = Relu (x)
            p = If (b) <then_branch = t2 () => (float[B, 4] q) { q = Add (h, x) },
                        else_branch = e2 () => (float[B, 4] r) { r = Mul (h, x) }>
        },
        else_branch = other () => (float[B, 4] s) {
            s = If (b) <then_branch = t3 () => (float[B, 4] t) { t = Tanh (x) },
                        else_branch = e3 () => (float[B, 4] u) { u1 = Neg (x)
                            u = Exp (u1) }>
        }>
    z = Sub (y, x)
}"""

COPIED = """g (float[B, 4] x, bool a) => (float[B, 4] y, float[B, 4] k, float[B, 4] w) {
    c = Constant <value_float = 2.0> ()
    h = Add (x, c)
    y, k = If (a) <
        then_branch = then () => (float[B, 4] p, float[B, 4] p2) { p = Identity (h)
            p2 = Sigmoid (h) },
        else_branch = other () => (float[B, 4] q, float[B, 4] q2) { q = Relu (x)
            q2 = Identity (x) }>
    w = Mul (h, y)
}"""

CONSTANTS = """g (float[3] x, bool[1] a) => (float[2] y, int64[1] n) {
    y, n = If (a) <
        then_branch = then () => (float[2] p, int64[1] p2) { p = Constant <value_floats = [1.0, 2.0]> ()
            p2 = Constant <value_ints = [7]> () },
        else_branch = other () => (float[2] q, int64[1] q2) { q = Constant <value_floats = [3.0, 4.0]> ()
            q2 = Constant <value_ints = [9]> () }>
}"""

IMAGES = """g (float[B, 3, 8, 8] x, bool a) => (float[B, 4, 8, 8] y, float[B, 4, 8, 8] z)
    <float[4, 3, 3, 3] w, float[4, 4, 1, 1] v> {
    h = Conv <pads = [1, 1, 1, 1]> (x, w)
    t = Transpose <perm = [0, 1, 3, 2]> (h)
    y = If (a) <
        then_branch = then () => (float[B, 4, 8, 8] p) { p1 = Conv (t, v)
            p = Relu (p1) },
        else_branch = other () => (float[B, 4, 8, 8] q) { q = Add (t, h) }>
    z1 = Conv (t, v)
    z = Add (z1, y)
}"""

LOOP = """g (float[4] x, int64 n) => (float[4] y, float[N, 4] all) {
    yes = Constant <value = bool {1}> ()
    y, all = Loop (n, yes, x) <body = body (int64 i, bool going, float[4] v) => (bool still, float[4] out, float[4] s) {
        still = Identity (going)
        m = ReduceMean <keepdims = 0> (v)
        zero = Constant <value_float = 0.0> ()
        c = Greater (m, zero)
        out = If (c) <then_branch = then () => (float[4] p) { p1 = Sin (v)
                          p = Sub (p1, x) },
                      else_branch = other () => (float[4] q) { q1 = Exp (x)
                          q = Add (q1, v) }>
        s = Identity (out)
    }>
}"""

SEPARATE = """g (float[B, 4] x, int64[2] i, bool a) => (float[2, 4] y) {
    y = If (a) <
        then_branch = then () => (float[2, 4] p) { p = Gather (x, i) },
        else_branch = other () => (float[2, 4] q) { q1 = ReduceMax <axes = [0], keepdims = 1> (x)
            s = Constant <value_ints = [2, 4]> ()
            q = Expand (q1, s) }>
}"""

BY_NUMPY = """g (float[B, 4] x) => (float[B, 4] y) {
    m = ReduceMean <keepdims = 0> (x)
    c = IsInf (m)
    y = If (c) <then_branch = then () => (float[B, 4] p) { p = Relu (x) },
                else_branch = other () => (float[B, 4] q) { q = Neg (x) }>
}"""

BY_SIZES = """g (float[B, 4] x) => (float[B, 4] y) {
    s = Shape (x)
    f = Cast <to = 1> (s)
    m = ReduceMin <keepdims = 0> (f)
    k = Constant <value_float = 2.5> ()
    c = Greater (m, k)
    h = If (c) <then_branch = then () => (float[B, 4] p) { p = Tanh (x) },
                else_branch = other () => (float[B, 4] q) { q = Neg (x) }>
    y = Relu (h)
}"""


def computed(text: str) -> str:
    """Compute every boolean input from a float, because booleans among the feeds decide an If before the run."""
    found = re.findall(r"bool((?:\[1\])?) ([ab])[,)]", text.partition("=>")[0])
    for shape, name in found:
        text = text.replace(f"bool{shape} {name}", f"float{shape} f{name}", 1)
        nodes = f"z{name} = Constant <value_float = 0.0> ()\n {name} = Greater (f{name}, z{name})"
        text = text.replace("{\n", f"{{\n{nodes}\n", 1)
    return text


def model(text: str) -> bytes:
    return onnx.parser.parse_model(HEAD + computed(text)).SerializeToString()


def images() -> bytes:
    proto = onnx.parser.parse_model(HEAD + computed(IMAGES).replace("<float[4, 3, 3, 3] w, float[4, 4, 1, 1] v>", ""))
    random = np.random.default_rng(3)
    for name, shape in (("w", (4, 3, 3, 3)), ("v", (4, 4, 1, 1))):
        values = random.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return proto.SerializeToString()


def plain(content: bytes) -> tinyonnx.InferenceSession:
    options = tinyonnx.SessionOptions()
    options.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    return tinyonnx.InferenceSession(content, options)


def threaded(content: bytes, threads: int) -> tinyonnx.InferenceSession:
    options = tinyonnx.SessionOptions()
    options.intra_op_num_threads = threads
    return tinyonnx.InferenceSession(content, options)


def noise(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def truths(*names: str) -> Iterator[dict[str, Any]]:
    for values in itertools.product([True, False], repeat=len(names)):
        yield {f"f{name}": np.float32(1 if value else -1) for name, value in zip(names, values)}


def feeds_of(name: str) -> Iterator[dict[str, Any]]:
    """Yield feeds with every outcome of the conditions, several sizes and seeds, mixed."""
    for seed, batch in enumerate((1, 2, 2, 5, 1, 3, 2)):
        match name:
            case "nested":
                yield from ({"x": noise(batch, 4, seed=seed), **given} for given in truths("a", "b"))
            case "copied":
                yield from ({"x": noise(batch, 4, seed=seed), **given} for given in truths("a"))
            case "constants":
                yield from ({"x": noise(3), "fa": given["fa"].reshape(1)} for given in truths("a"))
            case "images":
                yield from ({"x": noise(batch, 3, 8, 8, seed=seed), **given} for given in truths("a"))
            case "loop":
                yield {"x": noise(4, seed=seed), "n": np.array(batch * 3 - 3)}
            case "by sizes":
                yield {"x": noise(batch, 4, seed=seed)}
            case "by numpy":
                yield from ({"x": x} for x in (noise(batch, 4, seed=seed), np.full((batch, 4), np.inf, np.float32)))


CONTENT = {
    "nested": model(NESTED), "copied": model(COPIED), "constants": model(CONSTANTS), "images": images(),
    "loop": model(LOOP), "by numpy": model(BY_NUMPY), "by sizes": model(BY_SIZES),
}  # fmt: skip


def check(session: tinyonnx.InferenceSession, reference: tinyonnx.InferenceSession, feeds: dict[str, Any]) -> None:
    for ours, expected in zip(session.run(None, feeds), reference.run(None, feeds), strict=True):
        assert (ours.shape, ours.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CONTENT)
def test_one_session_gives_what_the_operators_give(name: str, threads: int) -> None:
    session, reference = threaded(CONTENT[name], threads), plain(CONTENT[name])
    for feeds in feeds_of(name):
        check(session, reference, feeds)


@pytest.mark.parametrize("name", CONTENT)
def test_a_session_for_each_run(name: str) -> None:
    reference = plain(CONTENT[name])
    for feeds in itertools.islice(feeds_of(name), 6):
        check(tinyonnx.InferenceSession(CONTENT[name]), reference, feeds)


@pytest.mark.parametrize("name", ["nested", "copied", "constants", "images", "by numpy"])
def test_both_branches_are_steps(name: str) -> None:
    session = tinyonnx.InferenceSession(CONTENT[name])
    plan = session.plan_for(None, next(feeds_of(name)))
    assert not any(isinstance(step, NumpyStep) and step.node.op_type == "If" for step in plan.steps)
    assert sum(isinstance(step, BranchStep) for step in plan.steps) == (3 if name == "nested" else 1)


def test_a_condition_that_follows_from_sizes_leaves_kernels_after_the_branches() -> None:
    """The condition is computed once for each size; the results of the branches depend on data."""
    session = tinyonnx.InferenceSession(CONTENT["by sizes"])
    x = noise(3, 4)
    session.run(None, {"x": x})
    session.run(None, {"x": noise(2, 4)})
    (plans,) = session._sized.values()
    (sized,) = plans._plans
    kernels = {step.node.op_type for step in sized.plan.steps if isinstance(step, KernelStep)}
    assert kernels == {"Tanh", "Neg", "Relu"}
    np.testing.assert_allclose(session.run(None, {"x": x})[0], np.maximum(np.tanh(x), 0), atol=1e-6)


def test_runs_of_several_threads_use_guards_of_their_own() -> None:
    session, reference = tinyonnx.InferenceSession(CONTENT["nested"]), plain(CONTENT["nested"])
    feeds = [each for each in feeds_of("nested") if len(each["x"]) == 2]
    expected = [reference.run(None, each) for each in feeds]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            for found, wanted in zip(pool.map(lambda each: session.run(None, each), feeds), expected):
                for ours, other in zip(found, wanted, strict=True):
                    np.testing.assert_allclose(ours, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [3, 4])
def test_invalid_data_count_in_the_branch_taken_alone(batch: int) -> None:
    content = model(SEPARATE)
    session, reference = tinyonnx.InferenceSession(content), plain(content)
    good, bad = np.array([0, -1]), np.array([0, batch])
    for _ in range(2):
        for x in (noise(batch, 4), noise(batch, 4, seed=1)):
            for indices, taken in ((good, True), (bad, False), (good, False)):
                check(session, reference, {"x": x, "i": indices, "fa": np.float32(taken)})
            with pytest.raises(NodeError, match="Gather"):
                session.run(None, {"x": x, "i": bad, "fa": np.float32(1)})


@pytest.mark.parametrize("name", ["nested", "copied", "images"])
def test_every_tensor_of_the_graph_can_be_asked_for(name: str) -> None:
    session, reference = tinyonnx.InferenceSession(CONTENT[name]), plain(CONTENT[name])
    names = [value.name for node in session.graph.nodes for value in node.outputs if value is not None]
    for feeds in itertools.islice(feeds_of(name), 4):
        for ours, expected in zip(session.run(names, feeds), reference.run(names, feeds), strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("then", "other", "result"),
    [
        ("p = Relu (x)", "q1 = Constant <value_ints = [1, 4]> ()\n q = Reshape (x, q1)", "float[M, 4]"),
        ("p = NonZero (x)", "q1 = Relu (x)\n q = Cast <to = 7> (q1)", "int64[M, N]"),
        ("p = Cast <to = 8> (x)", "q = Cast <to = 8> (x)", "string[M, 4]"),
        ("p = Cast <to = 7> (x)", "q1 = Relu (x)\n q = Cast <to = 7> (q1)", "int64[M, 4]"),
        (
            "p1 = Constant <value_ints = [0]> ()\n p = Slice (x, p1, p1, p1)",
            "q1 = Constant <value_ints = [0]> ()\n q = Slice (x, q1, q1, q1)",
            "float[M, 4]",
        ),
    ],
)
def test_other_branches_stay_a_node(then: str, other: str, result: str) -> None:
    text = f"""g (float[B, 4] x, bool a) => ({result} y) {{
        y = If (a) <then_branch = then () => ({result} p) {{ {then} }},
                    else_branch = other () => ({result} q) {{ {other} }}>
    }}"""
    content = model(text)
    session, reference = tinyonnx.InferenceSession(content), plain(content)
    for batch in (1, 2, 2, 1):
        for given in truths("a"):
            feeds = {"x": np.abs(noise(batch, 4)) * 3, **given}
            if "Reshape" in other and batch > 1 and given["fa"] < 0:
                continue
            (ours,), (expected,) = session.run(None, feeds), reference.run(None, feeds)
            np.testing.assert_array_equal(ours, expected)
            assert ours.dtype == expected.dtype


def test_tools_show_the_steps_of_branches(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "nested.onnx"
    path.write_bytes(CONTENT["nested"])
    given = ["--input", "x=shape:2,4"]
    for command in (["inspect", "--optimized"], ["profile", "--repeats", "2"], ["trace"]):
        assert main([command[0], str(path), *command[1:], *given]) == 0
        assert "Sub" in capsys.readouterr().out
