"""Loop and Scan as steps of plans for native code: the session's numbers, bit for bit, or a reason for refusing."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import tinyonnx
from tests.tinyonnx.runtime.native_plans import NativePlan
from tinyonnx.codegen.kernel import DISABLED
from tinyonnx.native.model import CompileError
from tinyonnx.runtime.plan import LoopStart

pytestmark = pytest.mark.skipif(DISABLED, reason="tables of steps need machine code")

HEAD = '<ir_version: 8, opset_import: ["": 17]>'

COUNTED = """g (float[3, 4] x, int64 n, bool go) => (float[3, 4] y, float[3, 4] z) {
    h = Sigmoid (x)
    y, z = Loop (n, go, x, h) <body = b (int64 i, bool c, float[3, 4] p, float[3, 4] q) =>
            (bool c2, float[3, 4] p2, float[3, 4] q2) {
        c2 = Identity (c)
        half = Constant <value_float = 0.5> ()
        s = Mul (q, half)
        k = Cast <to = 1> (i)
        r = Add (p, s)
        p2 = Add (r, k)
        q2 = Sub (h, p)
    }>
}"""

SWAPPED = """g (float[3, 4] x, int64 n, bool go) => (float[3, 4] y, float[3, 4] z, float[3, 4] w) {
    h = Neg (x)
    y, z, w = Loop (n, go, x, h, x) <body = b (int64 i, bool c, float[3, 4] p, float[3, 4] q, float[3, 4] r) =>
            (bool c, float[3, 4] q, float[3, 4] p, float[3, 4] q2) { q2 = Exp (q) }>
}"""

ENDED = """g (float[3, 4] x, int64 n, bool go) => (float[3, 4] y) {
    y = Loop (n, go, x) <body = b (int64 i, bool c, float[3, 4] p) => (bool c2, float[3, 4] p2) {
        two = Constant <value_float = 2.0> ()
        p2 = Mul (p, two)
        most = ReduceMax <keepdims = 0> (p2)
        limit = Constant <value_float = 50.0> ()
        c2 = Less (most, limit)
    }>
}"""

UNLIMITED = ENDED.replace("Loop (n, go, x)", 'Loop ("", "", x)').replace("int64 n, bool go", "int64 n")

FLAGS = """g (float[3, 4] x, int64 n, bool go) => (float[3, 4] y, bool k, bool l) {
    no = Constant <value = bool {0}> ()
    y, k, l = Loop (n, go, x, go, no) <body = b (int64 i, bool c, float[3, 4] p, bool f, bool g) =>
            (bool f, float[3, 4] p2, bool g, bool c) { p2 = Exp (p) }>
}"""

STACKED = """g (float[3, 4] x, int64 n) => (float[3, 4] y, float[4, 3, 4] s, float[4] t, int64[4] i2, float[4, 2] k) {
    four = Constant <value_int = 4> ()
    y, s, t, i2, k = Loop (four, "", x) <body = b (int64 i, bool c, float[3, 4] p) =>
            (bool c, float[3, 4] p2, float[3, 4] s1, float m, int64 j, float[2] f) {
        p2 = Exp (p)
        s1 = Add (p, x)
        m = ReduceSum <keepdims = 0> (p2)
        j = Add (i, n)
        f = Constant <value_floats = [1.0, 2.0]> ()
    }>
}"""

SCANNED = """g (float[2, 5, 3] x, float[2, 3] h) => (float[2, 3] y, float[2, 5, 3] s, float[3, 2, 5] t) {
    y, s, t = Scan <num_scan_inputs = 2, scan_input_axes = [1, -2], scan_input_directions = [0, 1],
                    scan_output_axes = [1, -1], scan_output_directions = [1, 0],
        body = b (float[2, 3] p, float[2, 3] e, float[2, 3] f) => (float[2, 3] p2, float[2, 3] s1, float[3, 2] t1) {
            a = Add (p, e)
            p2 = Tanh (a)
            s1 = Mul (p2, f)
            t1 = Transpose <perm = [1, 0]> (s1)
        }> (h, x, x)
}"""

NESTED = """g (float[3, 4] x, int64 n, bool go) => (float[3, 4] y) {
    h = Relu (x)
    y = If (go) <
        then_branch = then () => (float[3, 4] p) {
            p = Loop (n, go, x) <body = b (int64 i, bool c, float[3, 4] p1) => (bool c2, float[3, 4] p2) {
                c2 = Identity (c)
                k = Cast <to = 1> (i)
                one = Constant <value_float = 1.5> ()
                odd = Less (k, one)
                p2 = If (odd) <
                    then_branch = t2 () => (float[3, 4] u) {
                        u = Loop (i, go, p1) <body = b2 (int64 j, bool d, float[3, 4] w) => (bool d2, float[3, 4] w2) {
                            d2 = Identity (d)
                            w1 = Add (w, h)
                            w2 = Sub (w1, k)
                        }>
                    },
                    else_branch = e2 () => (float[3, 4] v) {
                        first, rows = Scan <num_scan_inputs = 1, body = b3 (float[4] a, float[4] e) =>
                                (float[4] a2, float[4] o) { a2 = Add (a, e)
                                                            o = Identity (a2) }> (zeros, p1)
                        v = Mul (rows, one)
                    }>
            }>
        },
        else_branch = other () => (float[3, 4] q) { q = Neg (h) }>
}""".replace("h = Relu (x)", "h = Relu (x)\n    zeros = Constant <value_floats = [0.0, 0.5, 0.0, 0.0]> ()")

IMAGES = """g (float[1, 3, 6, 6] x, int64 n, bool go) => (float[1, 3, 6, 6] y, float[2, 1, 3, 6, 6] s)
    <float[3, 3, 3, 3] w> {
    h = Conv <pads = [1, 1, 1, 1]> (x, w)
    two = Constant <value_int = 2> ()
    y, s = Loop (two, "", h) <body = b (int64 i, bool c, float[1, 3, 6, 6] p) =>
            (bool c, float[1, 3, 6, 6] p2, float[1, 3, 6, 6] s1) {
        q = Conv <pads = [1, 1, 1, 1]> (p, w)
        p2 = Add (q, h)
        s1 = Relu (q)
    }>
}"""

COPIED = """g (float[1, 3, 6, 6] x, int64 n, bool go) => (float[1, 3, 6, 6] y, float[1, 108] z)
    <float[3, 3, 3, 3] w> {
    h = Conv <pads = [1, 1, 1, 1]> (x, w)
    y = Loop (n, go, x) <body = b (int64 i, bool c, float[1, 3, 6, 6] p) => (bool c, float[1, 3, 6, 6] p2) {
        f = Flatten (h)
        m = ReduceMean <axes = [1]> (f)
        p2 = Add (p, m)
    }>
    z = Flatten (h)
}"""

CASES = {
    "counted": COUNTED, "swapped": SWAPPED, "ended": ENDED, "unlimited": UNLIMITED, "flags": FLAGS, "stacked": STACKED,
    "scanned": SCANNED, "nested": NESTED, "images": IMAGES,
    "copied": COPIED,
}  # fmt: skip


def content_of(text: str) -> bytes:
    model = onnx.parser.parse_model(HEAD + text)
    rng = np.random.default_rng(3)
    for value in model.graph.value_info:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        array = (rng.standard_normal(shape) / 5).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
    content: bytes = model.SerializeToString()
    return content


def feeds_of(session: tinyonnx.InferenceSession, n: int, go: bool) -> dict[str, Any]:
    rng = np.random.default_rng(n + 5)
    numbers = {arg.name: rng.random(arg.shape).astype(np.float32) for arg in session.get_inputs()}
    return numbers | {k: v for k, v in (("n", np.array(n)), ("go", np.array(go))) if k in numbers}


@pytest.mark.parametrize("name", CASES)
def test_loops_give_the_sessions_numbers(name: str) -> None:
    content = content_of(CASES[name])
    session = tinyonnx.InferenceSession(content)
    native = NativePlan(content, feeds_of(session, 1, True))
    assert any(isinstance(step, LoopStart) for step in native.plan.steps)
    for n, go in ((3, True), (0, True), (1, True), (5, False), (-1, True), (70, True), (2, True)):
        feeds = feeds_of(session, n, go)
        found, expected = native.run(feeds), session.run(None, feeds)
        assert found is not None
        for a, b in zip(found, expected, strict=True):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), (n, go)


def test_invalid_data_end_a_loop_without_a_limit() -> None:
    text = """g (float[4] x, int64[1] at) => (int64[1] last) {
        last = Loop ("", "", at) <body = b (int64 i, bool c, int64[1] p) => (bool c2, int64[1] p2) {
            v = Gather (x, p)
            one = Constant <value_ints = [1]> ()
            p2 = Add (p, one)
            m = ReduceMax <keepdims = 0> (v)
            zero = Constant <value_float = 0.0> ()
            c2 = Less (zero, m)
        }>
    }"""
    content = content_of(text)
    session = tinyonnx.InferenceSession(content)
    x = np.array([1, 1, -1, 1], np.float32)
    native = NativePlan(content, {"x": x, "at": np.array([0])})
    for start, steps in ((0, 3), (2, 3), (3, None), (4, None), (1, 3)):
        feeds = {"x": x, "at": np.array([start])}
        found = native.run(feeds)
        if steps is None:
            assert found is None
            with pytest.raises(tinyonnx.Error, match="Gather"):
                session.run(None, feeds)
        else:
            assert found is not None
            assert found[0] == session.run(None, feeds)[0] == [steps]


GROWING = """g (float[2] x, int64 n) => (float[m] y) {
    y = Loop (n, "", x) <body = b (int64 i, bool c, float[k] p) => (bool c, float[l] p2) {
        p2 = Concat <axis = 0> (p, x)
    }>
}"""

COLLECTED = """g (float[2] x, int64 n) => (float[m, 2] y) {
    y = Loop (n, "") <body = b (int64 i, bool c) => (bool c, float[2] s) { s = Exp (x) }>
}"""

STOPPED = """g (float[2] x, int64 n) => (float[m, 2] y) {
    three = Constant <value_int = 3> ()
    y = Loop (three, "") <body = b (int64 i, bool c) => (bool c2, float[2] s) {
        s = Exp (x)
        c2 = Less (i, n)
    }>
}"""

PLACES = """g (float[2] x, int64 n) => (float[2] y) {
    y = Loop (n, "", x) <body = b (int64 i, bool c, float[2] p) => (bool c, float[2] p2) {
        z = NonZero (p)
        s = Shape (z)
        k = Cast <to = 1> (s)
        m = ReduceSum <keepdims = 0> (k)
        p2 = Add (p, m)
    }>
}"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GROWING, 'Loop "y" (node 0): the shape of "p" changes from one iteration to the next, or depends on data'),
        (COLLECTED, 'Loop "y" (node 0): the number of iterations, and with it the shape of "y", depends on data'),
        (STOPPED, 'Loop "y" (node 1): the number of iterations, and with it the shape of "y", depends on data'),
        (PLACES, 'Loop "y" (node 0): NonZero "z" in its body: no kernel for this operator'),
    ],
)
def test_what_depends_on_data_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(CompileError) as error:
        NativePlan(content_of(text), {"x": np.ones(2, np.float32), "n": np.array(2)})
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


FAILING = """g (float[3, 4] x, bool a, bool b) => (float[3, 4] z, float[3, 4] h) {
    w = Constant <value = float[4, 4] {1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6}> ()
    h = Relu (x)
    y = If (a) <
        then_branch = then () => (float[3, 4] p) {
            p = If (b) <
                then_branch = t2 () => (float[3, 4] q) { q = MatMul (h, w) },
                else_branch = e2 () => (float[k, l] r) { r = MatMul (w, h) }>
        },
        else_branch = other () => (float[3, 4] s) { s = Neg (h) }>
    z = Add (y, x)
}"""


def test_a_branch_that_fails_for_these_sizes_is_invalid_data() -> None:
    content = content_of(FAILING)
    session = tinyonnx.InferenceSession(content)
    x = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    native = NativePlan(content, {"x": x, "a": np.array(True), "b": np.array(True)})
    for a, b in ((True, True), (True, False), (False, False), (True, True)):
        feeds = {"x": x, "a": np.array(a), "b": np.array(b)}
        found = native.run(feeds)
        if a and not b:
            assert found is None
            with pytest.raises(tinyonnx.Error, match="MatMul"):
                session.run(None, feeds)
        else:
            assert found is not None
            for result, expected in zip(found, session.run(None, feeds), strict=True):
                np.testing.assert_array_equal(result, expected)


def test_an_if_whose_branches_both_fail_is_refused() -> None:
    text = FAILING.replace("MatMul (h, w)", "MatMul (w, h)")
    x = np.ones((3, 4), np.float32)
    with pytest.raises(CompileError, match=r'If "y" .* in a branch: MatMul "q" in a branch: shapes depend on data'):
        NativePlan(content_of(text), {"x": x, "a": np.array(True), "b": np.array(True)})
