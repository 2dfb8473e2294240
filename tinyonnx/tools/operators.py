"""The operators that tinyonnx and the installed onnx have."""

from __future__ import annotations

from dataclasses import dataclass

from tinyonnx.registry import FUSED, registered


@dataclass(frozen=True)
class Operator:
    """One operator.

    `versions` are those that can be run: the standard's, or the registered ones of an operator outside the standard.
    `missing` are the standard's others.
    """

    domain: str
    name: str
    versions: list[int]
    missing: list[int]
    standard: bool


def list_operators(domain: str | None = None) -> list[Operator]:
    """Return every registered or standard operator, by domain and name; with `domain`, only those of that domain.

    Fused operators, which only passes create, are left out. The domain "" is called "ai.onnx".
    """
    import tinyonnx.ops  # noqa: F401  registers them

    ours: dict[tuple[str, str], list[int]] = {}
    for op in registered():
        if op.domain != FUSED:
            ours.setdefault((op.domain or "ai.onnx", op.name), []).append(op.since)
    standard = _standard_versions()
    operators = []
    for key in sorted({*ours, *standard}):
        if domain not in (None, key[0]):
            continue
        first = min(ours.get(key, ()), default=None)
        theirs = sorted(standard.get(key, ()))
        versions = [v for v in theirs if first is not None and v >= first] if theirs else ours[key]
        operators.append(Operator(*key, versions, [v for v in theirs if v not in versions], key in standard))
    return operators


def onnx_version() -> str:
    """Return the version of the installed onnx."""
    import onnx

    return str(onnx.__version__)


def _standard_versions() -> dict[tuple[str, str], set[int]]:
    from onnx.defs import get_all_schemas_with_history

    versions: dict[tuple[str, str], set[int]] = {}
    for schema in get_all_schemas_with_history():
        versions.setdefault((schema.domain or "ai.onnx", schema.name), set()).add(schema.since_version)
    return versions
