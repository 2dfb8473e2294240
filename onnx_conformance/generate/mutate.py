"""Change a node at random: its version, types, sizes, attributes and values."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, defs, helper

from onnx_conformance.generate.corpus import Corpus, Operator
from onnx_conformance.generate.draws import Random, coin, one
from onnx_conformance.generate.sample import Draft

SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, float("inf"), float("-inf"), float("nan"), 1e-40, 3e38)
"""Values at which functions change their behaviour."""

_PADDING = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")

NAMES: dict[str, tuple[str, ...]] = {
    "Cast.round_mode": ("up", "down", "nearest"),
    "CastLike.round_mode": ("up", "down", "nearest"),
    "BitShift.direction": ("LEFT", "RIGHT"),
    "DepthToSpace.mode": ("DCR", "CRD"),
    "SpaceToDepth.mode": ("DCR", "CRD"),
    "GridSample.mode": ("linear", "nearest", "cubic", "bilinear", "bicubic"),
    "Pad.mode": ("constant", "reflect", "edge", "wrap"),
    "Resize.mode": ("nearest", "linear", "cubic"),
    "RoiAlign.mode": ("avg", "max"),
    "TensorScatter.mode": ("linear", "circular"),
    "TfIdfVectorizer.mode": ("TF", "IDF", "TFIDF"),
    "Upsample.mode": ("nearest", "linear"),
    "NegativeLogLikelihoodLoss.reduction": ("none", "sum", "mean"),
    "SoftmaxCrossEntropyLoss.reduction": ("none", "sum", "mean"),
    "activation": ("silu", "swish", "none"),
    "aggregate_function": ("AVERAGE", "SUM", "MIN", "MAX"),
    "approximate": ("none", "tanh"),
    "auto_pad": _PADDING,
    "case_change_action": ("LOWER", "UPPER", "NONE"),
    "cast_to": ("TO_FLOAT", "TO_STRING", "TO_INT64"),
    "coordinate_transformation_mode": (
        "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
        "tf_crop_and_resize", "output_half_pixel",
    ),
    "direction": ("forward", "reverse", "bidirectional"),
    "keep_aspect_ratio_policy": ("stretch", "not_larger", "not_smaller"),
    "kernel_type": ("LINEAR", "POLY", "RBF", "SIGMOID"),
    "map_form": ("DENSE", "SPARSE"),
    "nearest_mode": ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
    "norm": ("L1", "L2", "MAX"),
    "padding_mode": ("zeros", "border", "reflection"),
    "post_transform": _TRANSFORMS,
    "reduction": ("none", "add", "mul", "max", "min"),
    "update_rule": ("linear", "gated", "delta", "gated_delta"),
}  # fmt: skip
"""The names that attributes have as values, by attribute, or by operator and attribute where it differs.

A version of an operator has those that the text of its schema contains."""

USUAL: dict[str, tuple[float, ...]] = {
    "alpha": (0.01, 0.2, 1 / 6, 1e-4), "beta": (0.5, 0.75), "bias": (1.0, 2.0), "gamma": (1.0507,), "clip": (0.2, 3.0),
    "epsilon": (1e-5, 1e-3, 1e-6, 1e-12), "momentum": (0.9, 0.99), "scale": (0.125,), "softcap": (30.0,),
}  # fmt: skip
"""Values that exporters give to float attributes."""

SIZES = (0, 1, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33)
"""Sizes of axes: zero, one, and sizes around those of processors' vectors."""


@cache
def versions(domain: str, name: str) -> tuple[int, ...]:
    """Return the versions of an operator in the installed onnx, without those that are only deprecations."""
    schemas = [s for s in defs.get_all_schemas_with_history() if s.domain == domain and s.name == name]
    return tuple(sorted(schema.since_version for schema in schemas if not schema.deprecated))


@cache
def all_operators() -> tuple[tuple[Operator, int], ...]:
    """Return every operator of onnx's own domains with each of its versions."""
    schemas = [s for s in defs.get_all_schemas_with_history() if s.domain in ("", "ai.onnx.ml") and not s.deprecated]
    return tuple(sorted({((schema.domain, schema.name), schema.since_version) for schema in schemas}))


def schema_of(draft: Draft) -> Any:
    """Return the schema of a draft's node. Raises ValueError if there is none in its version."""
    try:
        return defs.get_schema(draft.node.op_type, draft.version, draft.node.domain)
    except Exception as error:
        raise ValueError(str(error)) from error


def to_version(r: Random, draft: Draft, since: int) -> None:
    """Move a node to an opset in which this version of its operator holds.

    Parameters that are an input in one version and an attribute in another move as well.
    """
    domain, name = draft.node.domain, draft.node.op_type
    later = [version for version in versions(domain, name) if version > since]
    newest = defs.onnx_opset_version() if not domain else since
    last = later[0] - 1 if later else max(newest, since)
    old = schema_of(draft)
    draft.version = int(r.integers(since, last + 1))
    new = schema_of(draft)
    attributes = {attribute.name: attribute for attribute in draft.node.attribute}
    formal = [parameter.name for parameter in old.inputs]
    wanted = [parameter.name for parameter in new.inputs]
    for i, parameter in enumerate(formal[: len(draft.values)]):
        if parameter in new.attributes and parameter not in wanted and draft.values[i] is not None:
            array = np.asarray(draft.values[i])
            value = array.tolist()
            if new.attributes[parameter].type in (defs.OpSchema.AttrType.INT, defs.OpSchema.AttrType.FLOAT):
                value = array.ravel()[0].item() if array.size else 0
            draft.node.attribute.append(helper.make_attribute(parameter, value))
            draft.values[i] = None
    for parameter in wanted:
        if parameter in attributes and parameter not in new.attributes:
            value = np.asarray(helper.get_attribute_value(attributes[parameter]))
            value = value.astype(np.int64 if value.dtype.kind == "i" else np.float32)
            place = wanted.index(parameter)
            draft.values += [None] * (place + 1 - len(draft.values))
            draft.values[place] = value
            draft.node.attribute.remove(attributes[parameter])
    for attribute in list(draft.node.attribute):
        declared = new.attributes.get(attribute.name)
        if declared is None or declared.type.value != attribute.type:
            draft.node.attribute.remove(attribute)
        if declared is not None and (declared.type.value, attribute.type) == (
            AttributeProto.STRING,
            AttributeProto.INT,
        ):
            name = onnx.TensorProto.DataType.Name(attribute.i)  # the type that Cast converts to, in its first version
            draft.node.attribute.append(helper.make_attribute(attribute.name, name))


def retype(r: Random, draft: Draft) -> None:
    """Give one type parameter of the schema another tensor type."""
    schema = schema_of(draft)
    constraints = {c.type_param_str: list(c.allowed_type_strs) for c in schema.type_constraints}
    used = [p.type_str for p in _formals(schema, len(draft.values)) if p.type_str in constraints]
    if not used:
        return
    chosen = one(r, *dict.fromkeys(used))
    options = [name for name in constraints[chosen] if name.startswith("tensor(") and "complex" not in name]
    if not options:
        return
    dtype = dtype_of(one(r, *options))
    for i, parameter in enumerate(_formals(schema, len(draft.values))):
        value = draft.values[i]
        if parameter.type_str == chosen and isinstance(value, np.ndarray):
            draft.values[i] = converted(value, dtype)
            if "zero_point" in parameter.name and dtype.kind not in "iu":  # 8-bit floats have none
                draft.values[i] = np.zeros_like(draft.values[i])


def _formals(schema: Any, count: int) -> list[Any]:
    """Return the formal parameter of each input; the last one stands for further variadic ones."""
    formals = list(schema.inputs)
    return [formals[min(i, len(formals) - 1)] for i in range(count)] if formals else []


def dtype_of(type_name: str) -> np.dtype[Any]:
    """Return numpy's type of `tensor(…)`; strings are objects."""
    name = type_name.removeprefix("tensor(").removesuffix(")")
    if name == "string":
        return np.dtype(object)
    number = getattr(onnx.TensorProto, name.upper())
    return np.dtype(helper.tensor_dtype_to_np_dtype(number))


def converted(array: Any, dtype: np.dtype[Any]) -> Any:
    """Return an array in another type, without numbers that the type lacks."""
    if dtype.kind == "O":
        return np.array([str(item) for item in np.asarray(array).ravel().tolist()], object).reshape(np.shape(array))
    if array.dtype.kind in "OUS":
        return np.zeros(array.shape, np.float32).astype(dtype)
    with np.errstate(all="ignore"):
        if dtype.kind in "iu" and array.dtype.kind not in "iub":
            array = np.nan_to_num(np.asarray(array, np.float64), posinf=9, neginf=-9).round()
        if dtype.kind == "u":
            array = np.abs(np.asarray(array, np.float64 if array.dtype.kind == "V" else array.dtype))
        if dtype.kind in "iu":
            info = np.iinfo(dtype)
            if array.dtype.kind in "iuf":
                array = np.clip(array, max(info.min, -(2**53)), min(info.max, 2**53))
        elif dtype.kind == "V":
            array = np.asarray(array, np.float32)
        return array.astype(dtype)


def resize(r: Random, draft: Draft) -> None:
    """Change the size of all axes of one size, or of one axis."""
    places = [
        (i, axis, size)
        for i, value in enumerate(draft.values)
        if isinstance(value, np.ndarray) and (value.dtype.kind in "fV" or value.ndim > 1)
        for axis, size in enumerate(value.shape)
    ]
    if not places:
        return
    i, axis, size = places[r.integers(len(places))]
    chosen = [p for p in places if p[2] == size] if r.random() < 0.7 else [(i, axis, size)]
    new = one(r, *SIZES)
    for i, axis, old in chosen:
        index = np.arange(new) % max(old, 1)
        if old:
            draft.values[i] = np.take(draft.values[i], index, axis=axis)
        else:
            shape = list(draft.values[i].shape)
            shape[axis] = new
            draft.values[i] = np.zeros(shape, draft.values[i].dtype)


def revalue(r: Random, draft: Draft) -> None:
    """Draw the numbers of an input anew: normal, halves (for ties), or with special values."""
    floats = [i for i, v in enumerate(draft.values) if isinstance(v, np.ndarray) and v.dtype.kind in "fV" and v.size]
    if not floats:
        return
    i = int(one(r, *floats))
    value = draft.values[i]
    kind = r.random()
    new = r.standard_normal(value.shape) * one(r, 0.1, 1, 1, 4, 30)
    if kind < 0.3:
        new = np.round(2 * new) / 2
    elif kind < 0.4:  # equal numbers
        new = np.round(new).clip(-2, 2)
    if (np.asarray(value, np.float32) > 0).all():
        new = np.abs(new) + 0.01
    if kind > 0.9:
        places = r.random(value.shape) < 0.2
        new = np.where(places, r.choice(SPECIAL, value.shape), new)
    with np.errstate(all="ignore"):
        draft.values[i] = np.asarray(new, np.float32).astype(value.dtype)


def nudge(r: Random, draft: Draft) -> None:
    """Change one integer of a small input, such as an axis or a size, within the range of the input's numbers."""
    whole = [i for i, v in enumerate(draft.values)
             if isinstance(v, np.ndarray) and v.dtype.kind == "i" and 0 < v.size <= 16]  # fmt: skip
    if whole:
        i = int(one(r, *whole))
        flat = draft.values[i].copy().reshape(-1)
        lowest, highest = int(flat.min()), int(flat.max())
        if flat.size == 1:
            flat[0] = max(lowest + int(one(r, -1, 1)), min(lowest, 0))
        else:
            flat[r.integers(flat.size)] = r.integers(lowest, highest + 1)
        draft.values[i] = flat.reshape(draft.values[i].shape)


def attribute_values(schema: Any, name: str, known: list[Any]) -> list[Any]:
    """Return values of an attribute: all names that this version allows, both of a flag, else what examples have.

    Numbers are also drawn at the default and beside it.
    """
    attribute = schema.attributes[name]
    default = attribute.default_value
    names = NAMES.get(f"{schema.name}.{name}", NAMES.get(name, ()))
    allowed = [value for value in names if value in attribute.description]
    if attribute.type == defs.OpSchema.AttrType.STRING and allowed:
        return list(allowed)
    options = list(known)
    if attribute.type == defs.OpSchema.AttrType.INT:
        if _are_flags([*options, default.i]) and (options or default.name):
            return [0, 1]
        return _range(options, default, 0 if name.endswith("mode") else 1)
    if attribute.type == defs.OpSchema.AttrType.FLOAT:
        return list(dict.fromkeys([*float_values(name, default.f if default.name else None), *options]))
    return options


def float_values(name: str, default: float | None) -> list[float]:
    """Return values of a float attribute: the default and numbers beside it, those of exporters, an edge."""
    found = [] if default is None else [default, default * 1.02, -default, 2 * default, default + 1]
    return list(dict.fromkeys([*found, *USUAL.get(name, ()), 0.0, 0.5, 1.0, 3.0]))


def set_attribute(node: NodeProto, name: str, value: Any) -> None:
    """Give a node an attribute, or none for None; auto_pad and pads exclude each other."""
    for attribute in [a for a in node.attribute if a.name == name]:
        node.attribute.remove(attribute)
    if value is not None:
        node.attribute.append(helper.make_attribute(name, value))
        for other in [a for a in node.attribute if {a.name, name} == {"auto_pad", "pads"}]:
            node.attribute.remove(other)


def reattribute(r: Random, draft: Draft, known: Mapping[tuple[Operator, str], list[Any]]) -> None:
    """Remove an attribute, or give it an extreme value or one from another example."""
    schema = schema_of(draft)
    operator = (draft.node.domain, draft.node.op_type)
    present = {a.name: a for a in draft.node.attribute if a.type != AttributeProto.GRAPH}
    names = [name for name, a in schema.attributes.items() if a.type != defs.OpSchema.AttrType.GRAPH]
    if not names:
        return
    name = one(r, *names)
    if name in present and (_is_a_size(draft, present[name]) or marks_numbers(draft, name)):
        return
    if name in present:
        draft.node.attribute.remove(present[name])
    if not schema.attributes[name].required and coin(r):
        return
    options = attribute_values(schema, name, known.get((operator, name), []))
    if schema.attributes[name].type == defs.OpSchema.AttrType.INTS and options:
        options.append(nudged(r, options[r.integers(len(options))]))
    if options:
        set_attribute(draft.node, name, options[r.integers(len(options))])


def _range(known: list[Any], default: AttributeProto, beyond: int) -> list[int]:
    """Return the whole numbers from the least that is known to the greatest, and `beyond` more, if they are few."""
    values = [*known, *([default.i] if default.name else [])]
    if not values:
        return [0, 1]
    lowest, highest = min(values), max(values) + beyond
    return list(range(lowest, highest + 1)) if highest - lowest < 32 else values


def _is_a_size(draft: Draft, attribute: AttributeProto) -> bool:
    """Return whether an attribute has a size of one of the inputs, such as that of a hidden state."""
    sizes = {size for value in draft.values if isinstance(value, np.ndarray) for size in value.shape}
    return attribute.type == AttributeProto.INT and attribute.i > 1 and attribute.i in sizes


def marks_numbers(draft: Draft, name: str) -> bool:
    """Return whether an attribute is a negative number that whole inputs contain, such as that of classes to ignore."""
    marks = [a.i for a in draft.node.attribute if (a.name, a.type) == (name, AttributeProto.INT) and a.i < 0]
    whole = [v for v in draft.values if isinstance(v, np.ndarray) and v.dtype.kind == "i"]
    return any((value == mark).any() for mark in marks for value in whole)


def nudged(r: Random, values: Any) -> list[int]:
    """Return whole numbers, one of which is changed by one."""
    new = [int(value) for value in values]
    if new:
        new[r.integers(len(new))] += int(one(r, -1, 1))
    return new


def _are_flags(values: list[Any]) -> bool:
    return all(isinstance(value, int) and value in (0, 1) for value in values)


def reduce_inputs(r: Random, draft: Draft) -> None:
    """Leave out an optional input, or make all but the first initializers."""
    schema = schema_of(draft)
    optional = [
        i for i, p in enumerate(_formals(schema, len(draft.values)))
        if p.option == defs.OpSchema.FormalParameterOption.Optional and draft.values[i] is not None
    ]  # fmt: skip
    if optional and coin(r):
        draft.values[int(one(r, *optional))] = None
    else:
        draft.constants = {i for i, v in enumerate(draft.values) if i and isinstance(v, np.ndarray)}


def mutated(r: Random, draft: Draft, corpus: Corpus, since: int, most: int = 3) -> Draft:
    """Return a copy in this version of its operator, with `most` changes at most. Raises ValueError if it has none."""
    new = draft.copy()
    for i, value in enumerate(new.values):
        if isinstance(value, np.ndarray):
            new.values[i] = value.copy()
    to_version(r, new, since)
    if r.random() < 0.2 * most:
        retype(r, new)
    for _ in range(int(r.integers(0, most + 1))):
        match r.integers(7):
            case 0 | 6:
                reattribute(r, new, corpus.attributes)
            case 1:
                resize(r, new)
            case 2:
                revalue(r, new)
            case 3:
                nudge(r, new)
            case 4:
                reduce_inputs(r, new)
            case _:
                resize(r, new)
    return new
