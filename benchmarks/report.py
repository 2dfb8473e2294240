"""Formatting of measurements as tables and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmarks.peers import IN_BFLOAT16
from benchmarks.table import ABSENT, number, ratio, table
from benchmarks.turns import Case, Measurement, finite
from tinyonnx.codegen.processor import has_bfloat16

HEADER = (
    *("", "ms", "ours ÷", "min", "CPU ms", "ours ÷", "peak MiB", "ours ÷"),
    *("first ms", "÷ FMA peak", "max abs. diff."),
)

LEGEND = """\
ms, CPU ms: medians. ours ÷: our time (CPU time, memory) divided by the line's. first: until the first
result, loading included. ÷ FMA peak: time divided by (operations ÷ the cores' measured peak; twice that for bfloat16).
openvino: in bfloat16, its default where the processor has it. onnxruntime_folded: the same model with constants
and normalisations folded; the faster of the two is the one to compare with."""


def _milli(seconds: float | None) -> str:
    return number(None if seconds is None else seconds * 1e3)


def roofline(case: Case, measurement: Measurement, peak: float) -> float | None:
    """Divide the time by that of the operations at the peak rate of the cores in use, for the type of the operands."""
    if not case.flops or measurement.median is None:
        return None
    rate = 2 if measurement.name in IN_BFLOAT16 and has_bfloat16() else 1
    return measurement.median * peak * rate * case.parameters.get("threads", 1) / case.flops


def details(case: Case, peak: float) -> str:
    """Format a case as a table, followed by a line for each absent contender."""
    ours = case.measurements[0]
    rows, remarks = [], []
    for m in case.measurements:
        if m.absent is not None:
            rows.append([m.name, *[ABSENT] * (len(HEADER) - 1)])
            remarks.append(f"{m.name} is absent: {m.absent}")
            continue
        share = roofline(case, m, peak)
        rows.append(
            [
                m.name,
                *(
                    _milli(m.median),
                    ratio(ours.median, m.median),
                    _milli(min(m.wall, default=None)),
                ),
                *(_milli(m.median_cpu), ratio(ours.median_cpu, m.median_cpu)),
                *(number(m.peak_mib), ratio(ours.peak_mib, m.peak_mib)),
                *(_milli(m.first), ABSENT if share is None else f"{share:.2f}"),
                ABSENT if m.difference is None else f"{m.difference:.1e}",
            ]
        )
    flops = f" ({case.flops / 1e9:.3g} GFLOP)" if case.flops else ""
    return "\n".join([f"{case.title}{flops}", table(HEADER, rows), *remarks])


def summary(cases: list[Case]) -> str:
    """Format two short tables: models by runtime, and everything else by baseline."""
    models = [case for case in cases if case.part == "model"]
    parts = []
    if models:
        peers = [m.name for m in models[0].measurements]
        parts.append(
            table(
                ["ms per clip (ours ÷ theirs)", *peers],
                [_model_line(case) for case in models],
            )
        )
    others = [line for case in cases if case.part != "model" for line in _other_lines(case)]
    if others:
        parts.append(table(["", "ours", "theirs", "ours ÷ theirs"], others))
    return "\n\n".join(parts)


def _model_line(case: Case) -> list[str]:
    ours, *rest = case.measurements
    batch = case.parameters.get("batch", 1)
    cells = [_milli(ours.median / batch if ours.median else None)]
    for m in rest:
        time = _milli(m.median / batch if m.median else None)
        cells.append(ABSENT if time == ABSENT else f"{time} ({ratio(ours.median, m.median)})")
    return [case.title, *cells]


def _other_lines(case: Case) -> list[list[str]]:
    """Return the rows of a case: one of each kind for every contender except ours."""
    ours, *others = case.measurements
    wanted = {"mel": ["ms"], "start": ["ms", "CPU ms", "peak MiB"]}.get(case.part, ["CPU ms", "peak MiB"])
    lines = []
    for theirs in others:
        title = case.title if len(others) == 1 else f"{case.title}, beside {theirs.name}"
        pairs = {
            "ms": (ours.median, theirs.median),
            "CPU ms": (ours.median_cpu, theirs.median_cpu),
            "peak MiB": (ours.peak_mib, theirs.peak_mib),
        }
        for unit in wanted:
            cells = [number(x) if unit == "peak MiB" else _milli(x) for x in pairs[unit]]
            lines.append([f"{title}: {unit}", *cells, ratio(*pairs[unit])])
    return lines


def zoo(cases: list[Case]) -> str:
    """Format a table with a line for each model: our numbers ÷ ONNX Runtime's, and whether results are equal."""
    numbers = sorted({case.parameters["threads"] for case in cases})
    header = ["", "family", "equal", "ms"]
    header += [f"time ÷, {count} thr." for count in numbers] + ["first ms", "first ÷", "peak MiB", "peak ÷"]
    complete = any(len(case.measurements) > 2 for case in cases)
    header += ["empty cache: first s", "library ÷"] if complete else []
    rows, remarks = [], []
    for name in dict.fromkeys(case.parameters["model"] for case in cases):
        own = {case.parameters["threads"]: case for case in cases if case.parameters["model"] == name}
        one = next(iter(own.values()))
        ours, theirs = one.measurements[:2]
        times = [zoo_ratio(own[count]) if count in own else ABSENT for count in numbers]
        first = [_milli(ours.first), ratio(ours.first, theirs.first)]
        memory = [number(ours.peak_mib), ratio(ours.peak_mib, theirs.peak_mib)]
        equal = "yes" if all(map(is_equal, own.values())) else "NO"
        if any(m.absent is not None for m in one.measurements[:2]):
            equal = ABSENT
        absent = next((m for m in one.measurements if m.absent is not None), None)
        if absent is not None:
            remarks.append(f"{name}: {absent.name} is absent: {absent.absent}")
        row = [name, one.parameters["family"], equal, _milli(ours.median_cpu), *times, *first, *memory]
        rows.append([*row, *_extra(one)] if complete else row)
    return "\n".join([table(header, rows), *remarks])


def _extra(case: Case) -> list[str]:
    """Return the seconds until the first result with an empty cache, and the library's time ÷ ONNX Runtime's."""
    found = {m.name: m for m in case.measurements}
    cold, library = found.get("empty cache"), found.get("library")
    if cold is None or library is None:
        return [ABSENT, ABSENT]
    time = ratio(library.median_cpu, case.measurements[1].median_cpu)
    return [number(cold.first), time if library.absent is not None or is_equal(case, library) else "NOT EQUAL"]


def is_equal(case: Case, measurement: Measurement | None = None) -> bool:
    """Return whether results (by default ours) equal ONNX Runtime's within the tolerance of the model."""
    difference = (measurement or case.measurements[0]).difference
    return difference is not None and difference <= case.parameters["tolerance"]


def zoo_ratio(case: Case) -> str:
    """Return our time ÷ ONNX Runtime's: CPU time on one thread, which other processes disturb less, else wall time."""
    ours, theirs = case.measurements[:2]
    if case.parameters["threads"] == 1:
        return ratio(ours.median_cpu, theirs.median_cpu)
    return ratio(ours.median, theirs.median)


def machine_line(facts: dict[str, Any], peak: float) -> str:
    """Describe the machine in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {peak / 1e9:.0f} GFLOP/s of FMAs on one; "
        f"{facts['system']}, Python {facts['python']}, {versions}; {facts['date']}"
    )


def to_json(facts: dict[str, Any], peak: float, cases: list[Case]) -> dict[str, Any]:
    """Convert all measurements to JSON values: times, medians and ratios (ours ÷ theirs)."""

    def measured(case: Case, m: Measurement) -> dict[str, Any]:
        ours = case.measurements[0]
        return asdict(m) | {
            "median": m.median,
            "median_cpu": m.median_cpu,
            "ratio": ours.median / m.median if ours.median and m.median else None,
            "ratio_cpu": ours.median_cpu / m.median_cpu if ours.median_cpu and m.median_cpu else None,
            "ratio_peak_mib": ours.peak_mib / m.peak_mib if ours.peak_mib and m.peak_mib else None,
            "over_fma_peak": roofline(case, m, peak),
        }

    listed = [asdict(case) | {"measurements": [measured(case, m) for m in case.measurements]} for case in cases]
    document: dict[str, Any] = finite({"machine": facts | {"fma_peak_gflops": peak / 1e9}, "cases": listed})
    return document
