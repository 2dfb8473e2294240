"""Calls of operators that are not supported or not legal."""

from __future__ import annotations

import pytest

from tests.tinyonnx.onnxfile.hostile import HEADER, SMALL, refused


def test_all_unsupported_operators_at_once():
    error = refused(
        HEADER.replace('"f"', '"com.acme"')
        + """ g (float[2] x, bool c) => (float[2] y)
        { [a] p = FooOp(x)
          q = Relu<nonsense = 1>(p)
          [b] r = FooOp(q)
          y = If(c) <then_branch = t () => (float[2] s) { s = com.acme.Bar(r) },
                     else_branch = e () => (float[2] u) { u = Identity(r) }> }"""
    )
    assert str(error) == (
        '<bytes>: 2 operators are not supported: FooOp (2 nodes, first "a"), com.acme.Bar (1 node, first "s")'
    )


def test_operator_newer_than_the_opset():
    refused(SMALL.replace("Relu", "Gelu"), "1 operator is not supported: Gelu exists since opset 20", "18")


@pytest.mark.parametrize(
    ("node", "cause"),
    [
        ("Relu<slope = 1>(x)", 'unknown attribute "slope"'),
        ("Conv<stride = [1]>(x, x)", 'unknown attribute "stride"'),
        ("Conv<strides = 1>(x, x)", 'attribute "strides" is an int, must be a list of ints'),
        ("MaxPool<strides = [1]>(x)", 'required attribute "kernel_shape" is missing'),
        ("Cast(x)", 'required attribute "to" is missing'),
        ("Relu()", "0 of 1 required inputs"),
        ("Add(x)", "1 of 2 required inputs"),
        ("Add(, x)", "1 of 2 required inputs"),
        ("Relu(x, x)", "2 inputs, takes at most 1"),
        ("Relu(nowhere)", 'reads "nowhere", which nothing produces'),
    ],
)
def test_illegal_calls(node: str, cause: str):
    refused(SMALL.replace("Relu(x)", node), f'{node.split("(")[0].split("<")[0]} "act" (node 0)', cause)
