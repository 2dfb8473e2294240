"""Every registered signature against onnx.defs, at every schema version that it stands for."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import defs

import tinyonnx.ops
from tinyonnx.onnxfile.check import fits
from tinyonnx.onnxfile.load import types_of
from tinyonnx.registry import Op, registered

NEWEST = defs.onnx_opset_version()
DOMAINS = {s.domain for s in defs.get_all_schemas()}
VARIADIC = defs.OpSchema.FormalParameterOption.Variadic
SINGLE = defs.OpSchema.FormalParameterOption.Single

IMPLIED = {("Concat", "axis"): 1, ("Split", "axis"): 0}
"""Defaults that a schema's text gives, but not its data."""


HISTORY: dict[tuple[str, str], list[defs.OpSchema]] = {}
for _schema in sorted(defs.get_all_schemas_with_history(), key=lambda s: s.since_version):
    HISTORY.setdefault((_schema.domain, _schema.name), []).append(_schema)

FOREIGN = {("LayerNormalization", 1), ("SimplifiedLayerNormalization", 1)}
"""Operators of ONNX Runtime that it registers in ONNX's domain."""

ENTRIES = [
    e
    for e in registered()
    if e.function.__module__.startswith(tinyonnx.ops.__name__)
    and e.domain in DOMAINS
    and (e.name, e.since) not in FOREIGN
]
NAMES = [f"{e.label}-{e.since}" for e in ENTRIES]


def _schemas(entry: Op) -> list[defs.OpSchema]:
    """Return the schema versions that an entry stands for: its own, and later ones up to the next entry."""
    later = [e.since for e in ENTRIES if (e.domain, e.name) == (entry.domain, entry.name) and e.since > entry.since]
    end = min(later, default=NEWEST + 1)
    history = HISTORY.get((entry.domain, entry.name), [])
    ends = [s.since_version for s in history[1:]] + [NEWEST + 1]
    return [s for s, until in zip(history, ends) if s.since_version < end and until > entry.since]


def _default(attribute: defs.OpSchema.Attribute) -> object:
    if attribute.default_value.type == onnx.AttributeProto.UNDEFINED:
        return None
    value = onnx.helper.get_attribute_value(attribute.default_value)
    if isinstance(value, bytes):
        return value.decode()
    return [v.decode() if isinstance(v, bytes) else v for v in value] if isinstance(value, list) else value


def _is_variadic(schema: defs.OpSchema) -> bool:
    return any(i.option == VARIADIC for i in schema.inputs)


def _required_inputs(schema: defs.OpSchema) -> int:
    return sum(i.option == SINGLE for i in schema.inputs)


def _check_signature(entry: Op, schema: defs.OpSchema) -> None:
    if _is_variadic(schema):
        assert entry.max_inputs is None
    else:
        assert entry.max_inputs is None or entry.max_inputs >= len(schema.inputs)
    assert entry.min_inputs <= _required_inputs(schema)
    for name, attribute in schema.attributes.items():
        assert name in entry.attributes, f"attribute {name} of version {schema.since_version} is missing"
        if attribute.required:
            continue
        assert name not in entry.required, f"attribute {name} of version {schema.since_version} is optional"
        expected, actual = _default(attribute), entry.attributes[name]
        if expected is None:
            assert actual is None or actual == IMPLIED[entry.name, name]
        elif isinstance(expected, float):
            assert np.float32(actual) == np.float32(expected), (name, schema.since_version)
        else:
            assert actual == expected or list(actual) == expected, (name, schema.since_version)


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_signature_fits_its_schemas(entry: Op) -> None:
    for schema in _schemas(entry):
        _check_signature(entry, schema)


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_signature_is_no_looser_than_its_schemas(entry: Op) -> None:
    schemas = _schemas(entry)
    assert schemas, "stands for no schema"
    assert entry.required == set.intersection(*({n for n, a in s.attributes.items() if a.required} for s in schemas))
    assert set(entry.attributes) <= {name for s in HISTORY[entry.domain, entry.name] for name in s.attributes}
    if entry.max_inputs is None:
        assert any(map(_is_variadic, schemas))
    else:
        assert entry.max_inputs == max(len(s.inputs) for s in schemas)
        assert entry.min_inputs == min(map(_required_inputs, schemas))


VALUES = {
    defs.OpSchema.AttrType.INT: 1,
    defs.OpSchema.AttrType.FLOAT: 1.0,
    defs.OpSchema.AttrType.STRING: "a",
    defs.OpSchema.AttrType.INTS: [1],
    defs.OpSchema.AttrType.FLOATS: [1.0],
    defs.OpSchema.AttrType.STRINGS: ["a"],
    defs.OpSchema.AttrType.TENSOR: np.zeros(1),
}
"""A value of each type that an attribute may have; graphs and types of values aside."""

OTHERWISE_TYPED = {("Cast", "to"), ("Gradient", "y")}
"""Cast takes the types of all versions; the loader replaces Gradient's name of a value by a graph."""


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_attributes_have_the_types_of_the_schemas(entry: Op) -> None:
    for schema in _schemas(entry):
        accepted = {
            name: {kind for kind, value in VALUES.items() if fits(value, entry.attribute_types[name])}
            for name, attribute in schema.attributes.items()
            if attribute.type in VALUES and (entry.name, name) not in OTHERWISE_TYPED
        }
        expected = {name: {schema.attributes[name].type} for name in accepted}
        assert accepted == expected, f"version {schema.since_version}"


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_no_operator_is_registered_before_it_exists(entry: Op) -> None:
    assert entry.since >= HISTORY[entry.domain, entry.name][0].since_version


NAMED = """
Conv ConvTranspose BatchNormalization InstanceNormalization LayerNormalization MaxPool AveragePool
LpPool GlobalAveragePool GlobalMaxPool Gemm MatMul Add Sub Mul Div Pow Mod Neg Abs Sqrt Exp Log Erf
Equal Less Greater And Or Not Xor Relu LeakyRelu Elu Sigmoid Tanh HardSwish HardSigmoid Softmax
LogSoftmax ReduceMean ReduceMax ReduceSum ReduceMin ReduceProd ArgMax ArgMin Reshape Squeeze
Unsqueeze Flatten Transpose Concat Split Slice Gather Pad Expand Tile Resize Shape Size Constant
ConstantOfShape Range Cast Where Clip Identity Dropout If Loop Scan
"""


def test_the_named_operators_are_there() -> None:
    named = set(NAMED.split())
    assert named <= {entry.name for entry in registered()}


def test_types_are_those_that_onnx_itself_reads_from_its_schemas() -> None:
    if onnx.__version__.startswith("1.20."):
        pytest.skip("onnx 1.20 can't read them")
    for schema in defs.get_all_schemas_with_history():
        for position, formal in enumerate(schema.inputs):
            assert types_of(schema, position) == formal.types, schema.name
