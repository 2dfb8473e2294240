"""Operators of one's own, in plain Python, through whole sessions."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

import tinyonnx
from tinyonnx.cli import main

DOMAIN = "com.example.custom_ops"
X = np.array([-3, 0.5, 4], np.float32)


@tinyonnx.op("Clamp", domain=DOMAIN)
def clamp(x, low=None, *, high=1.0):
    """An optional input, an attribute with a default."""
    return np.clip(x, low, np.float32(high))


@tinyonnx.op("Clamp", domain=DOMAIN, since=3)
def clamp_3(x, low=None, *, high):
    """Another meaning from version 3 on."""
    return np.clip(x, low, np.float32(high)) + np.float32(100)


@tinyonnx.op("Parts", domain=DOMAIN)
def parts(x, *others):
    """Any number of inputs, two outputs."""
    return x[:1], np.concatenate([x[1:], *others])


@tinyonnx.op("Fail", domain=DOMAIN)
def fail(x, *, how="own"):
    if how == "own":
        raise tinyonnx.OpError("x is unlucky")
    return x / {}


def session(body, version=1):
    header = f'<ir_version: 8, opset_import: ["" : 18, "{DOMAIN}" : {version}]>'
    body = body.replace("own.", f"{DOMAIN}.")
    model = onnx.parser.parse_model(f"{header} m (float[n] x) => (float[k] y) {{ {body} }}")
    return tinyonnx.InferenceSession(model.SerializeToString())


def run(body, version=1):
    return session(body, version).run(None, {"x": X})[0]


@pytest.mark.parametrize(
    ("body", "version", "expected"),
    [
        ("y = own.Clamp(x)", 1, [-3, 0.5, 1]),
        ("y = own.Clamp<high = 2.0>(x)", 2, [-3, 0.5, 2]),
        ("y = own.Clamp<high = 2.0>(x)", 3, [97, 100.5, 102]),
        ("low = Constant<value = float {0.0}>() y = own.Clamp(x, low)", 1, [0, 0.5, 1]),
        ("a = Abs(x) b = own.Clamp<high = 3.5>(a) y = Neg(b)", 1, [-3, -0.5, -3.5]),
        ("a, b = own.Parts(x, x) y = Concat<axis = 0>(b, a)", 1, [0.5, 4, -3, 0.5, 4, -3]),
    ],
)
def test_custom_operators(body, version, expected):
    y = run(body, version)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, np.array(expected, np.float32))


def test_in_a_subgraph():
    body = """yes = Constant<value = bool {1}>()
        y = If(yes) <then_branch = t () => (float[k] a) { a = own.Clamp(x) },
                     else_branch = e () => (float[k] b) { b = Identity(x) }>"""
    np.testing.assert_array_equal(run(body), np.array([-3, 0.5, 1], np.float32))


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("y = own.Fail(x)", tinyonnx.NodeError, r'Fail "y" \(node 0, opset 1\): x is unlucky; inputs f32\[3\]'),
        ('y = own.Fail<how = "bug">(x)', tinyonnx.NodeError, "TypeError"),
        ("a, b, y = own.Parts(x)", tinyonnx.NodeError, "gives 2 outputs, the model has 3"),
        ("y = own.Clamp<hihg = 2.0>(x)", tinyonnx.ModelError, 'unknown attribute "hihg"'),
        ("y = own.Clamp(x, x, x)", tinyonnx.ModelError, "has 3 inputs, takes at most 2"),
    ],
)
def test_mistakes(body, error, message):
    with pytest.raises(error, match=message):
        run(body)


def test_an_attribute_without_a_default_is_required():
    with pytest.raises(tinyonnx.ModelError, match='required attribute "high" is missing'):
        session("y = own.Clamp(x)", version=3)


def test_everything_that_is_missing_is_listed_at_once():
    body = "a = own.Gone(x) b = own.Clamp(a) c = Vanished(b) d = own.Gone(c) y = own.Lost(d)"
    with pytest.raises(tinyonnx.ModelError) as caught:
        session(body)
    assert str(caught.value) == (
        f'<bytes>: 3 operators are not supported: {DOMAIN}.Gone (2 nodes, first "a"), '
        f'Vanished (1 node, first "c"), {DOMAIN}.Lost (1 node, first "y")'
    )


def test_they_are_listed(capsys):
    assert main(["ops", "--domain", DOMAIN]) == 0
    assert f"{DOMAIN} Clamp 1 3\n" in capsys.readouterr().out
