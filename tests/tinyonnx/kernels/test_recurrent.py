"""LSTM, GRU and RNN against the numpy operators: all outputs, shares, lengths, options, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tinyonnx.kernels.fast import assert_close, choose, guard, place, run_shares, run_whole
from tests.tinyonnx.kernels.test_conv import noise
from tinyonnx.codegen.kernel import DISABLED
from tinyonnx.codegen.primitives import LANES
from tinyonnx.ir import Array, Node
from tinyonnx.limits import Limits
from tinyonnx.registry import Fast, Info, lookup
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.runtime.operator_call import OpContext

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STATES = {"LSTM": 2, "GRU": 1, "RNN": 1}
HIDDEN = [1, 3, 17, LANES, LANES + 1, 40]
BATCH = [1, 2, 3, 7, 25, 40]
CONSTANTS = (1, 2, 3, 4, 7)
"""Weights, biases, lengths and peepholes among the inputs."""


def operands(
    name: str, time: int, batch: int, features: int, hidden: int, directions: int, *, bias: bool = True,
    lengths: Sequence[int] | None = None, initial: bool = False, peepholes: bool = False, layout: int = 0,
) -> list[Array | None]:  # fmt: skip
    """Return the inputs of a layer, random."""
    gates = GATES[name]
    x = noise(0, time, batch, features)
    states = [noise(5 + i, directions, batch, hidden) if initial else None for i in range(STATES[name])]
    if layout == 1:
        x, states = x.swapaxes(0, 1), [None if s is None else s.swapaxes(0, 1) for s in states]
    return [
        np.ascontiguousarray(x),
        noise(1, directions, gates * hidden, features) / 2,
        noise(2, directions, gates * hidden, hidden) / np.float32(np.sqrt(hidden)),
        noise(3, directions, 2 * gates * hidden) if bias else None,
        None if lengths is None else np.array(lengths, np.int32),
        *[None if s is None else np.ascontiguousarray(s) for s in states],
        *([noise(9, directions, 3 * hidden)] if peepholes else []),
    ]


def check(name: str, inputs: Sequence[Array | None], unread: Sequence[int] = (), **attributes: Any) -> None:
    """Compare the kernel's outputs with the operator's, run as a whole and in shares; leave out those not read."""
    entry = lookup("", name, 22)
    node = Node(name, inputs, [None, None], opset=22)  # type: ignore[arg-type]
    expected = entry.function(OpContext(node, Limits()), *inputs, **attributes)
    infos = [None if x is None else Info(x.dtype, x.shape, x if i in CONSTANTS else None) for i, x in enumerate(inputs)]
    chosen = choose(entry, Info(expected[0].dtype, expected[0].shape), infos, attributes)
    assert isinstance(chosen, Fast), chosen
    around: list[Array] = []
    arrays = [x if x is None or i in CONSTANTS else place(x, "row_major", around) for i, x in enumerate(inputs)]
    outs = [
        None if i in unread else place(np.full(e.shape, np.nan, np.float32), "row_major", around)
        for i, e in enumerate(expected)
    ]
    found: Any = chosen.bind(ConstantPool(), outs, *arrays, **attributes)
    calls = guard(found, around)
    written = run_whole(calls, around)
    whole = [None if out is None else out.copy() for out in outs]
    for result, wanted in zip(whole, expected, strict=True):
        if result is not None:
            assert_close(result, wanted)
    run_shares(calls, written, 3, around, in_place=False)
    for out, result in zip(outs, whole):
        if out is not None and result is not None:
            np.testing.assert_allclose(out, result, rtol=1e-5 if DISABLED else 0, atol=1e-5 if DISABLED else 0)


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("name", GATES)
def test_sizes(name: str, hidden: int) -> None:
    for batch in (1, 3, 7):
        check(name, operands(name, 4, batch, 5, hidden, 1))


@given(data=st.data())
@settings(max_examples=40)
def test_random_layers(data: st.DataObject) -> None:
    draw = data.draw
    name = draw(st.sampled_from(list(GATES)), "operator")
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]), "direction")
    time, batch = draw(st.integers(1, 5), "time"), draw(st.sampled_from(BATCH), "batch")
    lengths = draw(st.none() | st.lists(st.integers(0, time), min_size=batch, max_size=batch), "lengths")
    layout = draw(st.integers(0, 1), "layout")
    attributes: dict[str, Any] = {"direction": direction, "layout": layout}
    clip = draw(st.sampled_from([None, 0.5]), "clip")
    if clip is not None:
        attributes["clip"] = clip
    if name == "GRU":
        attributes["linear_before_reset"] = draw(st.integers(0, 1), "linear_before_reset")
    if name == "LSTM":
        attributes["input_forget"] = draw(st.integers(0, 1), "input_forget")
    inputs = operands(
        name,
        time,
        batch,
        draw(st.sampled_from([1, 6, 33]), "features"),
        draw(st.sampled_from(HIDDEN), "hidden"),
        2 if direction == "bidirectional" else 1,
        bias=draw(st.booleans(), "bias"),
        lengths=lengths,
        initial=draw(st.booleans(), "initial"),
        peepholes=name == "LSTM" and draw(st.booleans(), "peepholes"),
        layout=layout,
    )
    unread = draw(st.sets(st.integers(0, STATES[name]), max_size=STATES[name]), "outputs that nothing reads")
    check(name, inputs, sorted(unread), **attributes)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("name", GATES)
def test_empty_and_short_sequences(name: str, direction: str) -> None:
    directions = 2 if direction == "bidirectional" else 1
    for initial in (False, True):
        check(name, operands(name, 4, 3, 2, 5, directions, lengths=[0, 4, 1], initial=initial), direction=direction)
        check(name, operands(name, 2, 2, 2, 5, directions, lengths=[0, 0], initial=initial), direction=direction)


@pytest.mark.parametrize(
    ("gate", "alpha", "beta"),
    [("Relu", [], []), ("HardSigmoid", [0.3], [0.4]), ("HardSigmoid", [], []), ("LeakyRelu", [0.1], [])],
)
@pytest.mark.parametrize("name", GATES)
def test_activations(name: str, gate: str, alpha: list[float], beta: list[float]) -> None:
    names = {"LSTM": [gate, "tanh", "Relu"], "GRU": [gate, "Tanh"], "RNN": [gate]}[name]
    check(name, operands(name, 3, 2, 4, 6, 1), activations=names, activation_alpha=alpha, activation_beta=beta)


def test_two_directions_have_activations_of_their_own() -> None:
    names = ["HardSigmoid", "Tanh", "Tanh"] * 2
    inputs = operands("LSTM", 3, 2, 4, 6, 2)
    attributes: dict[str, Any] = {"direction": "bidirectional", "activations": names}
    check("LSTM", inputs, **attributes, activation_alpha=[0.3, 0.3], activation_beta=[0.4, 0.4])
    assert "activations" in refusal("LSTM", inputs, **attributes, activation_alpha=[0.3, 0.1])
    assert "activations" in refusal("LSTM", inputs, direction="bidirectional", activations=["Sigmoid"] * 6 + ["Tanh"])


def test_values_that_are_not_finite() -> None:
    for name in GATES:
        inputs = operands(name, 4, 5, 3, 6, 1)
        assert inputs[0] is not None
        inputs[0][1, 0, 0], inputs[0][1, 1, 1], inputs[0][2, 2, 2] = np.nan, np.inf, -np.inf
        check(name, inputs)


def refusal(name: str, inputs: Sequence[Array | None], variable: Sequence[int] = (), **attributes: Any) -> str:
    """Return the reason why there is no kernel."""
    infos = [
        None if x is None else Info(x.dtype, x.shape, x if i in CONSTANTS and i not in variable else None)
        for i, x in enumerate(inputs)
    ]
    return str(choose(lookup("", name, 22), Info(np.dtype(np.float32), (1, 1, 1, 1)), infos, attributes))


def test_refusals() -> None:
    for name in GATES:
        inputs = operands(name, 4, 2, 3, 6, 1, lengths=[4, 2], initial=True)
        for position in (1, 2, 3):
            assert refusal(name, inputs, variable=[position]) == "weights are not constant"
        assert "lengths of sequences are neither constant nor checked" in refusal(name, inputs, variable=[4])
        assert "doesn't support" in refusal(name, inputs, activations=["Softplus"] * 3)
        assert "clip" in refusal(name, inputs, clip=-1.0)
        assert "direction" in refusal(name, inputs, direction="sideways")
        others: list[tuple[int, Array]] = [
            (4, np.array([5, 2], np.int32)),
            (4, np.array([-1, 2], np.int32)),
            (4, np.array([1, 2], np.int64)),
            (4, np.array([1], np.int32)),
            (3, noise(0, 1, 7)),
            (5, noise(0, 1, 1, 6)),
            (0, noise(0, 4, 2, 3).astype(np.float64)),
        ]
        for position, other in others:
            assert refusal(name, [*inputs[:position], other, *inputs[position + 1 :]]), (position, other)
        assert refusal(name, inputs).startswith("Fast(")
