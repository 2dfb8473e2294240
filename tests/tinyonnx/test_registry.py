from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import tinyonnx
from tinyonnx import ops
from tinyonnx.errors import ModelError, OpError
from tinyonnx.registry import Attributes, Info, broadcast, by_running, lookup, op, registered, same_as

DOMAIN = "test.registry"
F32 = np.dtype(np.float32)


def test_the_greatest_since_up_to_the_opset_wins():
    @op("Versioned", domain=DOMAIN, since=2)
    def versioned_2(x): ...

    @op("Versioned", domain=DOMAIN, since=5)
    def versioned_5(x): ...

    assert lookup(DOMAIN, "Versioned", 4).function is versioned_2
    assert lookup(DOMAIN, "Versioned", 5).function is versioned_5
    assert lookup(DOMAIN, "Versioned", 99).function is versioned_5
    with pytest.raises(ModelError, match="exists since opset 2, the model uses opset 1"):
        lookup(DOMAIN, "Versioned", 1)


def test_double_registration_raises():
    @op("Once", domain=DOMAIN)
    def once(x): ...

    with pytest.raises(ValueError, match=r"test.registry.Once since 1 is registered twice"):
        op("Once", domain=DOMAIN)(once)


def test_errors_of_numpy_name_node_operator_and_inputs() -> None:
    @op("Raw", domain=DOMAIN)
    def raw(x):
        return x + np.ones(3, np.float32)

    node = onnx.helper.make_node("Raw", ["x"], ["y"], name="sum", domain=DOMAIN)
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [2]) for name in "xy")
    imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(DOMAIN, 1)]
    graph = onnx.helper.make_graph([node], "g", [x], [y])
    session = tinyonnx.InferenceSession(
        onnx.helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
    )
    text = r'Raw "sum" \(node 0, opset 1\): can\'t be computed for these inputs \(ValueError: .*\); inputs f32\[2\]'
    with pytest.raises(tinyonnx.NodeError, match=text):
        session.run(None, {"x": np.ones(2, np.float32)})


def test_the_signature_is_the_schema():
    @op("Schema", domain=DOMAIN)
    def schema(ctx, x, y=None, *more, axis, keepdims=1): ...

    entry = lookup(DOMAIN, "Schema", 1)
    assert entry.takes_ctx
    assert (entry.min_inputs, entry.max_inputs) == (1, None)
    assert entry.attributes == {"axis": None, "keepdims": 1}
    assert entry.required == {"axis"}


class Placement(Attributes):
    strides: list[int]
    pads: list[int] | None = None


class Scaling(Attributes):
    kind: str = "linear"
    factor: float = 1.0

    @classmethod
    def attribute_name(cls, parameter, field):
        return parameter if field == "kind" else f"{parameter}_{field}"


class Scaled(Placement):
    scale: float = 1.0


def test_attribute_groups_are_part_of_the_schema():
    def shape(x, *, placement: Scaled, **rest):
        return placement, rest

    @op("Groups", domain=DOMAIN, shape=shape)
    def groups(ctx, x, *, placement: Scaled, gate: Scaling = Scaling(factor=2.0), axis=1):
        return placement, gate, axis

    entry = lookup(DOMAIN, "Groups", 1)
    assert entry.attributes == {
        "strides": None, "pads": None, "scale": 1.0, "gate": "linear", "gate_factor": 2.0, "axis": 1
    }  # fmt: skip
    assert entry.required == {"strides"}
    assert entry.attribute_types["pads"] == list[int] | None
    assert entry.attribute_types["gate_factor"] is float
    placement, gate, axis = entry.function(None, 0, strides=[2], gate="cubic", axis=3)
    assert (placement.strides, placement.pads, placement.scale) == ([2], None, 1.0)
    assert (gate.kind, gate.factor, axis) == ("cubic", 2.0, 3)
    assert groups(None, 0, placement=placement, gate=gate)[:2] == (placement, gate)
    placement, rest = entry.shape(0, strides=[3], gate="cubic")
    assert (placement.strides, rest) == ([3], {"gate": "cubic"})
    with pytest.raises(TypeError, match="needs a value of 'strides'"):
        entry.function(None, 0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'stride'"):
        entry.function(None, 0, strides=[1], stride=[2])


def test_a_group_has_no_other_fields():
    with pytest.raises(TypeError, match="Placement has no field 'stride'"):
        Placement(strides=[1], stride=[2])
    assert Placement(strides=[1]).replace(pads=[0]).pads == [0]


def test_unknown_operators_are_named():
    with pytest.raises(ModelError, match=r"com\.acme\.Foo is not supported"):
        lookup("com.acme", "Foo", 1)


def test_shape_rules():
    a, b = Info(F32, (2, 1, 3)), Info(F32, (4, 1))
    assert same_as(0)(a, b) == Info(F32, (2, 1, 3))
    assert broadcast()(a, b) == Info(F32, (2, 4, 3))
    assert broadcast(np.bool_)(a, b).dtype == np.bool_
    assert broadcast()(a, Info(F32, None)).shape is None
    with pytest.raises(OpError, match="don't broadcast"):
        broadcast()(a, Info(F32, (5,)))


def test_a_rule_by_running_needs_the_values_that_decide():
    def tile(x, times):
        return np.tile(x, times)

    rule = by_running(tile, "times")
    times = np.array([1, 3])
    assert rule(Info(F32, (2, 2)), Info(times.dtype, times.shape, times)) == Info(F32, (2, 6))
    assert rule(Info(F32, (2, 2)), Info(times.dtype, times.shape)) is None


def in_a_new_process(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_operators_that_are_imported_later_add_no_newer_versions():
    early, late = in_a_new_process(
        """
import json, tinyonnx.ops
from tinyonnx import registry
early = {str(key): sorted(versions) for key, versions in registry._OPS.items()}
registry.registered()
print(json.dumps([early, {str(key): sorted(versions) for key, versions in registry._OPS.items()}]))
"""
    )
    assert 0 < len(early) < len(late)
    for key, versions in early.items():
        assert late[key][-len(versions) :] == versions, key


def test_versions_that_are_imported_later_are_registered_newest_first():
    """A thread may look one up while another imports them."""
    versions = in_a_new_process(
        """
import json, tinyonnx.ops
from tinyonnx import registry
early = set(registry._OPS)
registry.registered()
print(json.dumps({str(key): list(versions) for key, versions in registry._OPS.items() if key not in early}))
"""
    )
    assert versions
    assert [key for key, numbers in versions.items() if numbers != sorted(numbers, reverse=True)] == []


LATER = [("", "Loop", 13), ("ai.onnx", "Loop", 13), ("com.microsoft", "BiasGelu", 1), ("", "LayerNormalization", 9)]


@pytest.mark.parametrize(("domain", "name", "opset"), LATER)
def test_operators_are_imported_when_they_are_looked_up(domain, name, opset):
    assert in_a_new_process(
        f"""
import json, sys, tinyonnx.ops
from tinyonnx import registry
before = "tinyonnx.ops.others" in sys.modules
found = registry.lookup({domain!r}, {name!r}, {opset})
print(json.dumps([before, found.name, found.since <= {opset}]))
"""
    ) == [False, name, True]


def test_an_operator_that_would_be_imported_later_cannot_be_registered_again():
    assert (
        in_a_new_process(
            """
import json, tinyonnx
try:
    @tinyonnx.op("Loop", since=1)
    def loop(x): ...
except ValueError as error:
    print(json.dumps(str(error)))
"""
        )
        == "Loop since 1 is registered twice"
    )


def test_every_family_is_imported():
    root = Path(ops.__file__).parent
    families = {".".join(path.relative_to(root).with_suffix("").parts) for path in root.rglob("[!_]*.py")}
    registered()
    assert {f"tinyonnx.ops.{family}" for family in families} <= sys.modules.keys()
