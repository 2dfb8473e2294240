"""JSON objects to frozen dataclasses and back: keys, types and choices are those of the dataclass."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "text", type(None): "null"}


def from_json(kind: type[T], value: Any, where: str) -> T:
    """Make the dataclass `kind` from a JSON object; `where` names the object in messages.

    Fields whose default is None, zero or empty may be missing; all others must be stated. null stands for None.

    Raises:
        ValueError: an unknown or missing key, a value of another type, or what `kind` itself refuses.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {_shown(value)}, not an object")
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, kind))}
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise ValueError(f"{where} has the unknown key {unknown[0]!r}; keys are {', '.join(fields)}")
    missing = [name for name, field in fields.items() if name not in value and _required(field)]
    if missing:
        raise ValueError(f"{where} has no {missing[0]!r}")
    hints = _hints(typing.cast(Any, kind))
    given = {name: _converted(hints[name], item, f"{where}.{name}") for name, item in value.items()}
    try:
        return kind(**given)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def to_json(record: Any) -> dict[str, Any]:
    """Return the JSON object of a dataclass."""
    fields = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            value = to_json(value)
        elif isinstance(value, tuple):
            value = [to_json(item) if dataclasses.is_dataclass(item) else item for item in value]
        fields[field.name] = value
    return fields


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _required(field: Any) -> bool:
    return field.default is dataclasses.MISSING or bool(field.default)


def _converted(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is types.UnionType or origin is typing.Union:
        choices = typing.get_args(hint)
        if value is None and type(None) in choices:
            return None
        return _converted(next(choice for choice in choices if choice is not type(None)), value, where)
    if origin is typing.Literal:
        allowed = typing.get_args(hint)
        if value not in allowed or isinstance(value, bool):
            raise ValueError(f"{where} is {_shown(value)}, not one of {', '.join(map(repr, allowed))}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where} is {_shown(value)}, not a list")
        item = typing.get_args(hint)[0]
        return tuple(_converted(item, each, f"{where}[{i}]") for i, each in enumerate(value))
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(Any, hint), value, where)
    if hint is Any:
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = number and (hint is float or value == int(value)) if hint in (int, float) else isinstance(value, hint)
    if not fits or (number and not math.isfinite(value)):
        raise ValueError(f"{where} is {_shown(value)}, not {_NAMES.get(hint, hint.__name__)}")
    return hint(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"
