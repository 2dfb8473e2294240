"""Arrow types of the columns that tagging produces, independent of the values in them."""

from __future__ import annotations

from typing import Any


def tags_type(pa: Any) -> Any:
    """Return the Arrow type of a column of tags; `pa` is the pyarrow module."""
    fields = [("label", pa.string()), ("mid", pa.string()), ("index", pa.int32()), ("score", pa.float64())]
    return pa.list_(pa.struct(fields))


def columns(tags: list[list[dict[str, Any]]], errors: list[str | None], warnings: list[str | None]) -> dict[str, Any]:
    """Return the columns "tags", "error" and "warning" of a batch as Arrow arrays, as lists without pyarrow."""
    try:
        import pyarrow as pa
    except ImportError:
        return {"tags": tags, "error": errors, "warning": warnings}
    text = pa.string()
    return {
        "tags": pa.array(tags, tags_type(pa)),
        "error": pa.array(errors, text),
        "warning": pa.array(warnings, text),
    }
