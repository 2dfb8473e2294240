"""Every registered signature against onnx.defs, at every schema version that it stands for."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import defs

import tinyonnx.ops
from tinyonnx.registry import Op, registered

NEWEST = defs.onnx_opset_version()


def _history(domain: str, name: str) -> list[defs.OpSchema]:
    schemas = [s for s in defs.get_all_schemas_with_history() if (s.domain, s.name) == (domain, name)]
    return sorted(schemas, key=lambda s: s.since_version)


def _pairs() -> list[tuple[Op, defs.OpSchema]]:
    entries = [e for e in registered() if e.function.__module__.startswith(tinyonnx.ops.__name__) and not e.domain]
    pairs = []
    for entry in entries:
        later = [e.since for e in entries if e.name == entry.name and e.since > entry.since]
        end = min(later, default=NEWEST + 1)
        history = _history(entry.domain, entry.name)
        assert history, f"onnx has no operator {entry.label}"
        for i, schema in enumerate(history):
            valid_until = history[i + 1].since_version if i + 1 < len(history) else NEWEST + 1
            if schema.since_version < end and valid_until > entry.since and not _empty(schema):
                pairs.append((entry, schema))
    return pairs


def _empty(schema: defs.OpSchema) -> bool:
    return schema.deprecated


PAIRS = _pairs()


def _default(attribute: defs.OpSchema.Attribute) -> object:
    if attribute.default_value.type == onnx.AttributeProto.UNDEFINED:
        return None
    value = onnx.helper.get_attribute_value(attribute.default_value)
    if isinstance(value, bytes):
        return value.decode()
    return [v.decode() if isinstance(v, bytes) else v for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("entry", "schema"), PAIRS, ids=[f"{e.label}-{e.since}-schema{s.since_version}" for e, s in PAIRS]
)
def test_signature_fits_the_schema(entry: Op, schema: defs.OpSchema) -> None:
    variadic = any(i.option == defs.OpSchema.FormalParameterOption.Variadic for i in schema.inputs)
    required = sum(i.option == defs.OpSchema.FormalParameterOption.Single for i in schema.inputs)
    assert (entry.max_inputs is None) >= variadic
    if not variadic:
        assert entry.max_inputs is None or entry.max_inputs >= len(schema.inputs)
    # a version that is older in the same function may have had fewer inputs, never more required ones
    assert entry.min_inputs <= max(required, schema.min_input)
    for name, attribute in schema.attributes.items():
        assert name in entry.attributes, f"attribute {name} is missing"
        if attribute.required:
            continue
        assert name not in entry.required, f"attribute {name} is optional"
        expected, actual = _default(attribute), entry.attributes[name]
        if isinstance(expected, float):
            assert np.float32(actual) == np.float32(expected), name
        elif expected is None:
            # without a default in the schema, ours is None, or what the text says absence means
            continue
        else:
            assert actual == expected or list(actual) == expected, name


NAMED = """
Conv ConvTranspose BatchNormalization InstanceNormalization LayerNormalization MaxPool AveragePool
LpPool GlobalAveragePool GlobalMaxPool Gemm MatMul Add Sub Mul Div Pow Mod Neg Abs Sqrt Exp Log Erf
Equal Less Greater And Or Not Xor Relu LeakyRelu Elu Sigmoid Tanh HardSwish HardSigmoid Softmax
LogSoftmax ReduceMean ReduceMax ReduceSum ReduceMin ReduceProd ArgMax ArgMin Reshape Squeeze
Unsqueeze Flatten Transpose Concat Split Slice Gather Pad Expand Tile Resize Shape Size Constant
ConstantOfShape Range Cast Where Clip Identity Dropout If Loop Scan
"""


def test_no_operator_is_registered_before_it_exists() -> None:
    for entry in registered():
        if entry.function.__module__.startswith(tinyonnx.ops.__name__) and not entry.domain:
            assert entry.since >= _history("", entry.name)[0].since_version, entry.label


def test_the_named_operators_are_there() -> None:
    named = set(NAMED.split())
    assert named <= {entry.name for entry in registered()}
