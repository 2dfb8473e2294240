"""Every tool on cases of onnx's suite with control flow, sequences, optionals, strings, maps and odd types."""

from __future__ import annotations

import json
from typing import Any

import pytest

import tinyonnx
from onnx_conformance.suite.cases import Case
from tinyonnx.tools.compare import RunningValues, compare_layers, layer_names
from tinyonnx.tools.inspect import inspect_graph, inspect_plan, report_graph
from tinyonnx.tools.profile import profile
from tinyonnx.tools.report import Report
from tinyonnx.tools.trace import trace

NAMES = [
    "test_identity_sequence",
    "test_identity_opt",
    "test_equal_string",
    "test_if",
    "test_if_seq",
    "test_if_opt",
    "test_loop11",
    "test_loop13_seq",
    "test_loop16_seq_none",
    "test_scan9_sum",
    "test_sequence_map_add_2_sequences",
    "test_optional_has_element_empty_optional_input",
    "test_ai_onnx_ml_label_encoder_string_int",
    "test_nonzero_example",
    "test_cast_FLOAT_to_FLOAT8E5M2",
    "test_cast_BFLOAT16_to_FLOAT",
    "test_dft",
    "test_split_zero_size_splits_opset18",
    "test_lstm_defaults",
    "test_attention_4d_causal_expanded",
    "test_string_split_basic",
    "test_unique_sorted_with_axis",
]


@pytest.fixture(scope="module")
def cases(onnx_cases: list[Case]) -> dict[str, Case]:
    return {case.name: case for case in onnx_cases if case.name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_tools_cope(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    model = case.model
    session = tinyonnx.InferenceSession(model)
    feeds = case.data_sets[0].feeds
    assert inspect_graph(session).nodes
    graph, plan = inspect_graph(session, feeds), inspect_plan(session, feeds)
    assert len(graph.nodes) >= len([s for s in plan.steps if s.kind != "layout"])
    report = Report(name, report_graph(session, session.plan_for(None, feeds).graph, {}))
    seen: list[Any] = []

    def read(activation: Any, value: Any) -> None:
        seen.append(activation)
        report.add_activation(activation, value)

    trace(session, feeds, read)
    assert all(activation.type or activation.value for activation in seen)
    assert json.loads(report.html().partition('id="data">')[2].partition("</script>")[0])["nodes"] is not None
    assert (
        compare_layers(session, feeds, RunningValues(model, feeds, layer_names(session, feeds))).first_over(1e-3)
        is None
    )
    assert len(profile(session, feeds, 1).steps) == len(plan.steps)
