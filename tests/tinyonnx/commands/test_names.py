"""Texts from files reach the terminal escaped, in every command."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tinyonnx import cli

ESCAPE = "\x1b]0;owned\x07\x1b[31m\x9b1m"


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """A model with control characters in all its names; its results are infinite and NaN."""
    monkeypatch.chdir(tmp_path)
    shape = [f"n{ESCAPE}", f"m{ESCAPE}"]
    nodes = [
        helper.make_node("Log", [f"x{ESCAPE}"], [f"a{ESCAPE}"], name=f"first{ESCAPE}"),
        helper.make_node("Div", [f"a{ESCAPE}", f"a{ESCAPE}"], [f"y{ESCAPE}"], name=f"second{ESCAPE}"),
    ]
    graph = helper.make_graph(
        nodes,
        f"graph{ESCAPE}",
        [helper.make_tensor_value_info(f"x{ESCAPE}", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"y{ESCAPE}", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, "odd.onnx")
    np.savez("zeros.npz", **{f"x{ESCAPE}": np.zeros((2, 3), np.float32)})
    return "odd.onnx"


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"], ["run", "--inputs", "zeros.npz"], ["inspect"], ["inspect", "--optimized"],
        ["inspect", "--pass", "specialise"], ["trace", "--inputs", "zeros.npz"], ["profile", "--repeats", "1"],
        ["--verbose", "run"],
        ["run", "--output", f"nothing{ESCAPE}"], ["compare", "--against", "reference"],
        ["run", "--dim", f"m{ESCAPE}=x"], ["run", "--input", f"q{ESCAPE}=shape:2"],
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_no_control_character_reaches_the_terminal(arguments, odd, capfd):
    at = 2 if arguments[0].startswith("-") else 1
    with suppress(SystemExit):
        cli.main([*arguments[:at], odd, *arguments[at:]])
    out, err = capfd.readouterr()
    assert (out + err).replace("\n", "").isprintable()
    assert "x1b" in out + err
    assert "Warning" not in err


def test_numpy_warns_of_nothing_in_python_either(odd):
    import warnings

    from tinyonnx import GraphOptimizationLevel, InferenceSession, SessionOptions

    for level in (GraphOptimizationLevel.ORT_DISABLE_ALL, GraphOptimizationLevel.ORT_ENABLE_ALL):
        options = SessionOptions()
        options.graph_optimization_level = level
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            session = InferenceSession(odd, options)
            (y,) = session.run(None, {f"x{ESCAPE}": np.zeros((2, 3), np.float32)})
        assert np.isnan(y).all()
