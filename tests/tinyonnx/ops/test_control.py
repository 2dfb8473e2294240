"""If, Loop and Scan in whole models, against onnxruntime; their refusals by message."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

import tinyonnx
from tinyonnx.limits import Limits

F32, I64 = np.float32, np.int64


def model(text: str, opset: int = 17) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')


def tinyonnx_outputs(proto: onnx.ModelProto, feeds: dict[str, Any], limits: Limits | None = None) -> list[Any]:
    options = tinyonnx.SessionOptions()
    if limits is not None:
        options.limits = limits
    return tinyonnx.InferenceSession(proto.SerializeToString(), options).run(None, feeds)


def onnxruntime_outputs(proto: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(proto.SerializeToString(), options).run(None, feeds)


def check(text: str, opset: int = 17, **feeds: Any) -> list[Any]:
    proto = model(text, opset)
    outputs = tinyonnx_outputs(proto, feeds)
    for output, expected in zip(outputs, onnxruntime_outputs(proto, feeds), strict=True):
        assert isinstance(output, np.ndarray)
        assert output.dtype == expected.dtype
        np.testing.assert_array_equal(output, expected, strict=True)
    return outputs


def refusal(text: str, opset: int = 17, **feeds: Any) -> str:
    with pytest.raises(tinyonnx.NodeError) as caught:
        tinyonnx_outputs(model(text, opset), feeds)
    return str(caught.value)


def test_a_loop_without_state_or_condition():
    body = """agraph (int64 n) => (int64[k] y) <int64 two = {2}> {
        y = Loop (n, CONDITION) <body = b (int64 i, bool going) => (bool go_on, int64 o) {
            go_on = Identity (going) o = Mul (i, two)
        }>
    }"""
    for text in (body.replace("CONDITION", '""'), body.replace(", CONDITION", "")):
        (y,) = tinyonnx_outputs(model(text), {"n": np.array(3)})
        assert y.tolist() == [0, 2, 4]
    check(body.replace("CONDITION", '""'), n=np.array(3))


def test_a_loop_without_a_limit_or_state():
    body = """agraph (bool go) => (int64[k] y) <int64 last = {3}> {
        y = Loop ("", go) <body = b (int64 i, bool going) => (bool go_on, int64 o) {
            go_on = Less (i, last) o = Identity (i)
        }>
    }"""
    assert check(body, go=np.array(True))[0].tolist() == [0, 1, 2, 3]
    assert check(body, go=np.array(False))[0].tolist() == []


def test_a_scan_without_state():
    body = """agraph (float[n] x) => (float[k] y) {
        y = Scan (x) <num_scan_inputs = 1, body = b (float s) => (float t) { t = Neg (s) }>
    }"""
    assert check(body, x=np.array([1, -2], F32))[0].tolist() == [-1, 2]


def test_a_scan_without_anything_to_scan():
    with pytest.raises(tinyonnx.ModelError, match="has 0 of 1 required inputs"):
        tinyonnx_outputs(
            model("""agraph (float[n] x) => (float[k] y) {
            y = Scan () <num_scan_inputs = 1, body = b (float s) => (float t) { t = Neg (s) }>
        }"""),
            {},
        )


BRANCHES = """agraph (bool c, float[N] x) => (float[M] y) {
    y = If (c) <
        then_branch = yes () => (float[K] a) { a = Neg (x) },
        else_branch = no () => (float[L] b) { b = Concat <axis = 0> (x, x) }
    >
}"""


@pytest.mark.parametrize("condition", [np.array(True), np.array(False)])
def test_if_runs_one_branch_on_captured_values(condition):
    check(BRANCHES, c=condition, x=np.arange(3, dtype=F32))


def test_if_refuses_several_conditions():
    text = BRANCHES.replace("bool c", "bool[Q] c")
    assert "the condition must be one boolean" in refusal(text, c=np.array([True, False]), x=np.ones(2, F32))


RUNNING_SUM = """agraph (int64 n, bool go, float[2] x) => (float[2] total, float[T, 2] steps) {
    total, steps = Loop (n, go, x) <
        body = turn (int64 i, bool going, float[2] sum) => (bool next, float[2] doubled, float[2] copied) {
            next = Identity (going)
            doubled = Add (sum, x)
            copied = Identity (doubled)
        }
    >
}"""


@pytest.mark.parametrize("count", [0, 1, 4])
def test_loop_carries_and_stacks(count):
    total, steps = check(RUNNING_SUM, n=np.array(count, I64), go=np.array(True), x=np.array([1, 2], F32))
    assert steps.shape == (count, 2)
    np.testing.assert_array_equal(total, np.array([1, 2], F32) * (count + 1))


def test_loop_that_may_not_start():
    (_, steps) = check(RUNNING_SUM, n=np.array(3, I64), go=np.array(False), x=np.ones(2, F32))
    assert steps.shape == (0, 2)


def test_loop_ends_when_its_body_says_so():
    text = """agraph (int64 start) => (int64 last, int64[T] seen) {
        go = Constant <value = bool {1}> ()
        bound = Constant <value_int = 5> ()
        last, seen = Loop (, go, start) <
            body = turn (int64 i, bool going, int64 now) => (bool next, int64 after, int64 out) {
                after = Add (now, i)
                next = Less (after, bound)
                out = Identity (i)
            }
        >
    }"""
    last, seen = check(text, start=np.array(0, I64))
    assert last == 6
    assert seen.tolist() == [0, 1, 2, 3]


def test_loop_without_end_meets_its_limit():
    proto = model(RUNNING_SUM)
    feeds = {"n": np.array(2**62, I64), "go": np.array(True), "x": np.ones(2, F32)}
    with pytest.raises(tinyonnx.ResourceError, match="more than 50 iterations"):
        tinyonnx_outputs(proto, feeds, Limits(max_loop_iterations=50))
    with pytest.raises(tinyonnx.ResourceError, match="max_tensor_bytes"):
        tinyonnx_outputs(proto, feeds, Limits(max_tensor_bytes=800))


def test_loop_refuses_iterations_of_different_shapes():
    text = """agraph (int64 n, float[N] x) => (float[M] y, float[T, U] all) {
        y, all = Loop (n, , x) <
            body = turn (int64 i, bool going, float[A] now) => (bool next, float[B] twice, float[C] out) {
                next = Identity (going)
                twice = Concat <axis = 0> (now, now)
                out = Identity (twice)
            }
        >
    }"""
    assert 'iterations give different "out": float32[2] and float32[4]' in refusal(
        text, n=np.array(2, I64), x=np.ones(1, F32)
    )


SCAN = """agraph (float[2] zero, float[T, 2] x) => (float[2] total, float[A, B] sums) {{
    total, sums = Scan <
        num_scan_inputs = 1 {attributes},
        body = turn (float[2] sum, float[2] row) => (float[2] new, float[2] out) {{
            new = Add (sum, row)
            out = Identity (new)
        }}
    > (zero, x)
}}"""


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        ", scan_input_directions = [1]",
        ", scan_output_directions = [1]",
        ", scan_output_axes = [1]",
        ", scan_output_axes = [-1], scan_output_directions = [1]",
    ],
)
def test_scan(attributes):
    check(SCAN.format(attributes=attributes), zero=np.zeros(2, F32), x=np.arange(6, dtype=F32).reshape(3, 2))


@pytest.mark.parametrize("axis", [1, -1])
def test_scan_along_another_axis(axis):
    text = SCAN.format(attributes=f", scan_input_axes = [{axis}]").replace("float[T, 2] x", "float[2, T] x")
    check(text, zero=np.zeros(2, F32), x=np.arange(6, dtype=F32).reshape(2, 3))


@pytest.mark.parametrize("axis", [0, 1])
def test_scan_of_nothing_keeps_the_state(axis):
    text = SCAN.format(attributes=f", scan_output_axes = [{axis}]")
    total, sums = tinyonnx_outputs(model(text), {"zero": np.ones(2, F32), "x": np.zeros((0, 2), F32)})
    assert total.tolist() == [1, 1]
    assert sums.dtype == F32
    assert sums.shape == ((0, 2), (2, 0))[axis]


def test_scan_over_vectors_feeds_scalars():
    text = """agraph (float zero, float[T] x) => (float total, float[T] sums) {
        total, sums = Scan <
            num_scan_inputs = 1,
            body = turn (float sum, float item) => (float new, float out) {
                new = Add (sum, item)
                out = Identity (new)
            }
        > (zero, x)
    }"""
    check(text, zero=np.array(0, F32), x=np.arange(4, dtype=F32))


def test_scan_refuses_what_does_not_fit():
    feeds = {"zero": np.zeros(2, F32), "x": np.ones((3, 2), F32)}
    assert "scan_input_axes has 2 entries, expected 1" in refusal(
        SCAN.format(attributes=", scan_input_axes = [0, 0]"), **feeds
    )
    assert "axis 4 is out of range for rank 2" in refusal(SCAN.format(attributes=", scan_output_axes = [4]"), **feeds)
    two = SCAN.replace("num_scan_inputs = 1", "num_scan_inputs = 2").format(attributes="")
    assert "scan inputs of different lengths: [2, 3]" in refusal(two, **feeds)


def scan_8(**feeds: Any) -> list[Any]:
    text = """agraph (int64[B] lengths, float[B, 2] zero, float[B, T, 2] x) => (float[B, 2] y, float[B, T, 2] sums) {
        y, sums = Scan <
            num_scan_inputs = 1,
            directions = [%d],
            body = turn (float[2] sum, float[2] row) => (float[2] new, float[2] out) {
                new = Add (sum, row)
                out = Identity (new)
            }
        > (lengths, zero, x)
    }"""
    return tinyonnx_outputs(model(text % feeds.pop("direction"), opset=8), feeds)


@pytest.mark.parametrize("direction", [0, 1])
def test_scan_8_runs_each_sequence_to_its_own_length(direction):
    x = np.arange(12, dtype=F32).reshape(2, 3, 2)
    total, sums = scan_8(direction=direction, lengths=np.array([3, 2]), zero=np.ones((2, 2), F32), x=x)
    for i, length in enumerate([3, 2]):
        rows = x[i, :length][:: -1 if direction else 1]
        expected = np.cumsum(rows, axis=0) + 1
        np.testing.assert_array_equal(sums[i, :length], expected)
        np.testing.assert_array_equal(sums[i, length:], 0)
        np.testing.assert_array_equal(total[i], expected[-1])


def test_scan_8_refuses_lengths_beyond_the_input():
    with pytest.raises(tinyonnx.NodeError, match=r"sequence_lens \[3, 4\] don't fit 2 sequences of up to 3"):
        scan_8(direction=0, lengths=np.array([3, 4]), zero=np.ones((2, 2), F32), x=np.ones((2, 3, 2), F32))


def test_nested_loops():
    text = """agraph (int64 n, int64 zero) => (int64 count, int64[T] outer) {
        count, outer = Loop (n, , zero) <
            body = rows (int64 i, bool a, int64 c) => (bool b, int64 c2, int64 o) {
                b = Identity (a)
                c2 = Loop (i, , c) <
                    body = columns (int64 j, bool d, int64 e) => (bool f, int64 g) {
                        f = Identity (d)
                        h = Mul (i, j)
                        g = Add (e, h)
                    }
                >
                o = Identity (c2)
            }
        >
    }"""
    check(text, n=np.array(5, I64), zero=np.array(0, I64))


# -- SequenceMap ------------------------------------------------------------------------

SEQUENCE_MAP = """
    agraph (float[N, 2] x, float[2] y) => (seq(float[2]) sums, seq(float[2]) doubled) {
        rows = SplitToSequence <axis = 0, keepdims = 0> (x)
        sums, doubled = SequenceMap (rows, OTHER) <body = body (float[2] a, float[2] b) => (float[2] s, float[2] d) {
            s = Add (a, b)
            d = Add (y, y)
        }>
    }
"""


@pytest.mark.parametrize("other", ["y", "rows"])
@pytest.mark.parametrize("count", [1, 4])
def test_sequence_map(other, count):
    x, y = np.arange(2 * count, dtype=F32).reshape(count, 2), np.array([10, 20], F32)
    sums, doubled = tinyonnx_outputs(model(SEQUENCE_MAP.replace("OTHER", other)), {"x": x, "y": y})
    assert [s.tolist() for s in sums] == (x + (y if other == "y" else x)).tolist()
    assert [d.tolist() for d in doubled] == [[20, 40]] * count


def test_sequence_map_of_nothing_gives_empty_sequences():
    feeds = {"x": np.zeros((0, 2), F32), "y": np.zeros(2, F32)}
    assert tinyonnx_outputs(model(SEQUENCE_MAP.replace("OTHER", "y")), feeds) == [[], []]


def test_sequence_map_refuses_sequences_of_different_lengths():
    text = SEQUENCE_MAP.replace("OTHER", "fewer")
    text = text.replace("        sums, doubled =", "        fewer = SequenceErase (rows)\n        sums, doubled =")
    with pytest.raises(tinyonnx.NodeError, match="sequences of 3 and 2 elements"):
        tinyonnx_outputs(model(text), {"x": np.ones((3, 2), F32), "y": np.ones(2, F32)})


def test_sequence_map_keeps_the_limit_of_iterations():
    feeds = {"x": np.ones((9, 2), F32), "y": np.ones(2, F32)}
    with pytest.raises(tinyonnx.ResourceError, match="max_loop_iterations"):
        tinyonnx_outputs(model(SEQUENCE_MAP.replace("OTHER", "y")), feeds, Limits(max_loop_iterations=8))
