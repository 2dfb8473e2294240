"""Samples: every operator, version and choice is drawn, patterns are recognised, and invalid models are not drawn."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import defs, helper, parser

from onnx_conformance.fuzz.coverage import Coverage
from onnx_conformance.generate import surround
from onnx_conformance.generate.idioms import IDIOMS, idiom
from onnx_conformance.generate.inference import inferred, with_values
from onnx_conformance.generate.mutate import NAMES, marks_numbers, reattribute
from onnx_conformance.generate.sample import Sample, model_of
from onnx_conformance.generate.source import SampleSource
from onnx_conformance.generate.validity import all_nodes
from onnx_conformance.runtimes.tinyonnx import applied_passes
from tinyonnx.passes import PIPELINE

pytestmark = pytest.mark.usefixtures("loaded_suite")


@pytest.fixture(scope="module")
def source(loaded_suite: None) -> SampleSource:
    return SampleSource(1)


def _model(text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')


def test_samples_are_the_same_for_the_same_number(source: SampleSource) -> None:
    for number in (3, 5, 7, 15):
        first, again = source.draw(number), source.draw(number)
        assert first is not None
        assert again is not None
        assert first.model == again.model
        assert {k: v.tobytes() for k, v in first.feeds.items()} == {k: v.tobytes() for k, v in again.feeds.items()}


def test_most_operators_and_versions_are_drawn(source: SampleSource) -> None:
    coverage = Coverage()
    for number in range(2400):
        sample = source.draw(number)
        if sample is not None:
            coverage.add(sample.model, sample.feeds)
    assert len(coverage.operators) > 210
    assert len(coverage.versions) > 550
    assert len(coverage.missing()) < 8
    assert {"If", "Loop", "Scan", "QuantizeLinear", "LSTM", "ai.onnx.ml.SVMClassifier"} <= set(coverage.operators)


def test_there_is_an_idiom_for_each_pass() -> None:
    others = {"specialise", "drop_dead", "round_weights", "mark_rounded", "lower_microsoft", "check_lengths"}
    assert set(IDIOMS) == {step.__name__ for step in PIPELINE} - others


@pytest.mark.parametrize("name", IDIOMS)
def test_idioms_are_recognised(name: str) -> None:
    for seed in range(40):
        sample = idiom(np.random.default_rng(seed), name)
        if name in applied_passes(sample.model.SerializeToString(), sample.feeds):
            return
    pytest.fail(f"{name} met no pattern of its own in 40")


def test_attributes_stay_within_what_examples_have_and_one_beyond(source: SampleSource) -> None:
    corpus = source.corpus
    (draft,) = (d for d in corpus.nodes["", "LRN"] if len(d.node.attribute) == 1)
    seen = set()
    for seed in range(300):
        new = draft.copy()
        reattribute(np.random.default_rng(seed), new, corpus.attributes)
        seen |= {attribute.i for attribute in new.node.attribute if attribute.name == "size"}
    assert seen == {3, 4}


def test_sizes_of_hidden_states_stay(source: SampleSource) -> None:
    for draft in source.corpus.nodes["", "GRU"]:
        for seed in range(30):
            new = draft.copy()
            reattribute(np.random.default_rng(seed), new, source.corpus.attributes)
            (size,) = (attribute.i for attribute in new.node.attribute if attribute.name == "hidden_size")
            assert size == draft.values[2].shape[-1]


def test_every_name_of_an_attribute_is_that_of_a_version() -> None:
    texts: dict[str, str] = {}
    for schema in defs.get_all_schemas_with_history():
        for name, attribute in schema.attributes.items():
            for key in (name, f"{schema.name}.{name}"):
                texts[key] = texts.get(key, "") + attribute.description
    for key, values in NAMES.items():
        assert [value for value in values if value not in texts[key]] == []


def test_every_choice_is_a_turn(source: SampleSource) -> None:
    choices = {(op[1], feature.attribute, feature.value) for op, _, feature in source.features}
    assert {("LSTM", "input_forget", value) for value in (0, 1, None)} <= choices
    assert {("Resize", "nearest_mode", mode) for mode in NAMES["nearest_mode"]} <= choices
    assert {("Normalizer", "norm", norm) for norm in NAMES["norm"]} <= choices
    left_out = {(op[1], feature.left_out) for op, _, feature in source.features}
    assert {("LSTM", i) for i in range(3, 8)} | {("Clip", 1), ("Clip", 2)} <= left_out


def test_turns_give_their_choice(source: SampleSource) -> None:
    r, met = np.random.default_rng(0), 0
    for operator, since, feature in source.features[:150]:
        try:
            sample = source._featured(r, operator, since, feature)
        except (ValueError, IndexError, TypeError):
            continue
        (node,) = sample.model.graph.node
        found = [onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == feature.attribute]
        if feature.attribute:
            assert len(found) == (feature.value is not None)
        if feature.left_out >= 0:
            assert len(node.input) <= feature.left_out or not node.input[feature.left_out]
        met += 1
    assert met > 75


def test_arithmetic_follows_orders_that_are_not_their_own_inverse() -> None:
    model = _model("m (float[2,3,4,5] x) => (float[2,3,4,5] y) { y = Relu (x) }")
    met = 0
    for seed in range(200):
        graph = surround.chained(np.random.default_rng(seed), Sample(model, {}, "")).model.graph
        orders = {n.output[0]: list(n.attribute[0].ints) for n in graph.node if n.op_type == "Transpose"}
        wide = {t.name for t in graph.initializer if max(t.dims, default=1) > 1}
        for node in graph.node:
            order = next((orders[name] for name in node.input if name in orders), [])
            met += order != np.argsort(order).tolist() and bool(wide & set(node.input))
    assert met > 5


def test_float_attributes_are_drawn_at_and_beside_their_defaults(source: SampleSource) -> None:
    values = {f.value for op, _, f in source.features if (op[1], f.attribute) == ("HardSigmoid", "alpha")}
    assert {0.01, None} <= values
    assert {0.2, 0.204, 0.4, -0.2} <= {round(value, 6) for value in values if value is not None}


def test_patterns_are_changed_in_one_thing() -> None:
    seen = set()
    for seed in range(60):
        sample = idiom(np.random.default_rng(seed), "fuse_squeeze_excite")
        try:
            changed = surround.almost(np.random.default_rng(seed), sample).model.graph
        except ValueError:
            continue
        graph = sample.model.graph
        assert [node.op_type for node in changed.node] == [node.op_type for node in graph.node]
        seen.add("output" if len(changed.output) > len(graph.output) else "")
        seen |= {a.name for x, y in zip(changed.node, graph.node) if x != y for a in (*x.attribute, *y.attribute)}
        seen |= {"constant" for x, y in zip(changed.initializer, graph.initializer) if x != y}
    assert {"output", "constant"} <= seen
    assert len(seen) > 6


def test_marks_of_classes_to_ignore_stay(source: SampleSource) -> None:
    drafts = [d for d in source.corpus.nodes["", "NegativeLogLikelihoodLoss"] if marks_numbers(d, "ignore_index")]
    assert drafts
    for draft in drafts:
        for seed in range(30):
            new = draft.copy()
            reattribute(np.random.default_rng(seed), new, source.corpus.attributes)
            assert marks_numbers(new, "ignore_index")


def test_samples_of_some_operators_have_one_of_them() -> None:
    source = SampleSource(1, frozenset({"Softmax", "LSTM"}))
    origins = set()
    for number in range(60):
        sample = source.draw(number)
        if sample is not None:
            assert {"Softmax", "LSTM"} & {node.op_type for node in all_nodes(sample.model.graph)}
            origins.add(sample.origin.split()[0])
    assert {"family", "idiom"} <= origins


def test_examples_of_onnx_break_no_rule(source: SampleSource) -> None:
    for (_, operator), drafts in source.corpus.nodes.items():
        if operator == "MeanVarianceNormalization":  # onnx's inference needs its attribute
            continue
        for draft in drafts[::2]:
            sample = model_of(draft, "")
            with_values(sample.model, sample.feeds)


@pytest.mark.parametrize(
    ("opset", "text", "cause"),
    [
        (13, "m (float[2] x, int64[1] k) => (float[1] y, int64[1] i) { y, i = TopK <sorted = 0> (x, k) }", "open"),
        (13, "m (float[4,2] x, bool[5] c) => (float[n,2] y) { y = Compress <axis = 0> (x, c) }", "conditions"),
        (7, "m (float[2] x, float[1] y) => (float[2] z) { z = Sum (x, y) }", "broadcasts"),
        (13, "m (float[2] x, float[2] y) => (float[2] z) { z = Mod (x, y) }", "fmod"),
        (5, "m (float[2] x) => (int64[2] z) { z = Cast <to = 7> (x) }", "type"),
    ],
)
def test_models_that_break_a_rule_are_not_drawn(opset: int, text: str, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        inferred(parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}'))


def test_the_first_version_of_cast_is_drawn() -> None:
    source = SampleSource(1, frozenset({"Cast"}))
    nodes = [sample.model.graph.node[0] for i in range(80) if (sample := source.draw(i)) is not None]
    types = {onnx.AttributeProto.AttributeType.Name(a.type) for node in nodes for a in node.attribute if a.name == "to"}
    assert types == {"INT", "STRING"}


def test_modes_stay_within_what_examples_have(source: SampleSource) -> None:
    modes = {f.value for op, _, f in source.features if (op[1], f.attribute) == ("Attention", "qk_matmul_output_mode")}
    assert modes == {None, 0, 1, 2, 3}


def test_models_that_crash_the_inference_are_refused() -> None:
    node = helper.make_node("Split", ["x"], ["a", "b", "c", "d"], num_outputs=2)
    x = helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, [7])
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
    graph = helper.make_graph([node], "g", [x], outputs)
    with pytest.raises(ValueError, match="num_outputs of Split"):
        inferred(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10))
