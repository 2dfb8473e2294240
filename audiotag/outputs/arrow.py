"""Arrow's types of what tagging gives: the same in every part of a table, whatever is in it."""

from __future__ import annotations

from typing import Any


def tags_type(pa: Any) -> Any:
    """The type of a column of tags; `pa` is pyarrow."""
    fields = [("label", pa.string()), ("mid", pa.string()), ("index", pa.int32()), ("score", pa.float64())]
    return pa.list_(pa.struct(fields))


def columns(tags: list[list[dict[str, Any]]], errors: list[str | None]) -> dict[str, Any]:
    """The columns that tagging adds to a batch, as Arrow arrays; as lists where pyarrow isn't installed.

    From lists alone, Arrow would take a column of no errors, or of no tags, for one of another type.
    """
    try:
        import pyarrow as pa
    except ImportError:
        return {"tags": tags, "error": errors}
    return {"tags": pa.array(tags, tags_type(pa)), "error": pa.array(errors, pa.string())}
