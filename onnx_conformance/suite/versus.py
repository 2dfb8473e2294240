"""Compare several runs of the same cases side by side, and one run with an earlier one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from onnx_conformance import ConformanceError
from onnx_conformance.suite.reports import CaseRow, Summary, as_data
from onnx_conformance.workers import PASSED, UNSUPPORTED
from tinyonnx.commands._shared import table
from tinyonnx.files import write_text

_PAGE = Path(__file__).with_name("matrix.html")
_DATA = "/*DATA*/null"

ULP_EDGES = (0, 1, 2, 4, 8, 16, 64, 256, 4096)
"""Upper edges of the histogram of distances; a further bin is for all distances beyond."""


def side_by_side(summaries: Sequence[Summary]) -> str:
    """Return a table of operators and runtimes with the numbers of passing and of all cases."""
    lines: list[tuple[str, ...]] = [("operator", *(summary.runtime for summary in summaries), "cases")]
    names = sorted({row.operator for row in summaries[0].rows}, key=str.lower)
    for name in (*names, None):
        rows = [[row for row in s.rows if name is None or row.operator == name] for s in summaries]
        counts = [sum(row.status == PASSED for row in mine) for mine in rows]
        lines.append((name or "total", *map(str, counts), str(len(rows[0]))))
    return table(lines, right=range(1, len(summaries) + 2))


def histogram(rows: Sequence[CaseRow]) -> list[tuple[str, int]]:
    """Return the number of passing cases by their greatest distance in representable numbers, for each bin."""
    distances = [row.ulp for row in rows if row.ulp is not None]
    found, low = [], -1.0
    for edge in (*ULP_EDGES, float("inf")):
        name = str(edge) if edge == low + 1 else f"up to {edge}" if edge != float("inf") else f"over {low:g}"
        found.append((name, sum(low < ulp <= edge for ulp in distances)))
        low = edge
    return found


def histogram_text(summary: Summary) -> str:
    """Return the histogram of distances as text."""
    bins = histogram(summary.rows)
    most = max((count for _, count in bins), default=0) or 1
    lines = [("ULP", "cases", "")] + [(name, str(n), "#" * round(40 * n / most)) for name, n in bins if n]
    return table(lines, right=[1])


# -- an earlier run -------------------------------------------------------------------------


@dataclass(frozen=True)
class Changes:
    """Cases whose results changed since an earlier run, a line each."""

    worse: list[str]
    better: list[str]
    gone: int
    new: int

    def text(self) -> str:
        """Return all changes."""
        parts = [f"{len(self.worse)} got worse, {len(self.better)} got better, {self.new} new, {self.gone} gone"]
        for title, lines in (("got worse:", self.worse), ("got better:", self.better)):
            if lines:
                parts.append("\n".join([title, *lines]))
        return "\n\n".join(parts)


def read_runs(path: Path) -> list[dict[str, Any]]:
    """Return the runs of a file that `--json` wrote. Raises ConformanceError if it is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        runs: list[dict[str, Any]] = data.get("runs", [data])
        for run in runs:
            {row["name"]: row["status"] for row in run["rows"]}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConformanceError(f"{path} is not a result of --json") from None
    return runs


def changes(before: Sequence[Mapping[str, Any]], summary: Summary) -> Changes:
    """Return how a run differs from an earlier one of the same runtime. Raises ConformanceError if there is none."""
    earlier = next((run for run in before if run["runtime"] == summary.runtime), None)
    if earlier is None:
        raise ConformanceError(
            f"the earlier run has no {summary.runtime}, only {', '.join(r['runtime'] for r in before)}"
        )
    old = {row["name"]: row["status"] for row in earlier["rows"]}
    new = {row.name: row for row in summary.rows}
    worse: list[str] = []
    better: list[str] = []
    for name, row in new.items():
        was = old.get(name, row.status)
        if (was == PASSED) == (row.status == PASSED):
            continue
        message = row.message.partition("\n")[0][:200]
        line = f"{name}: {was} -> {row.status}{f': {message}' if message else ''}"
        (better if row.status == PASSED else worse).append(line)
    return Changes(worse, better, len(old.keys() - new.keys()), len(new.keys() - old.keys()))


# -- Markdown, a badge, a page --------------------------------------------------------------


def write_markdown(summaries: Sequence[Summary], path: Path) -> None:
    """Write a table of runtimes, and one of the operators for which not all cases pass everywhere."""
    lines = [f"Cases: {summaries[0].cases}", ""]
    lines += ["| runtime | passed | failed | unsupported | crashed or timed out | of those supported |"]
    lines += ["|---|--:|--:|--:|--:|--:|"]
    for summary in summaries:
        if summary.unavailable:
            lines.append(f"| {_cell(summary.runtime)} | {_cell(summary.unavailable)} | | | | |")
            continue
        passed, unsupported = (sum(row.status == s for row in summary.rows) for s in (PASSED, UNSUPPORTED))
        failed = sum(row.status == "failed" for row in summary.rows)
        others = len(summary.rows) - passed - failed - unsupported
        share = passed / max(1, len(summary.rows) - unsupported)
        name = f"{summary.runtime} {summary.version}".strip()
        lines.append(f"| {name} | {passed} | {failed} | {unsupported} | {others} | {share:.1%} |")
    summaries = [summary for summary in summaries if not summary.unavailable]
    lines += [
        "",
        f"| operator | {' | '.join(s.runtime for s in summaries)} | cases |",
        "|---|" + "--:|" * (len(summaries) + 1),
    ]
    for name in sorted({row.operator for row in summaries[0].rows}, key=str.lower):
        counts = [sum(row.status == PASSED for row in s.rows if row.operator == name) for s in summaries]
        cases = sum(row.operator == name for row in summaries[0].rows)
        if min(counts) < cases:
            lines.append(f"| {name} | {' | '.join(map(str, counts))} | {cases} |")
    write_text(str(path), "\n".join(lines) + "\n")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def write_badge(summary: Summary, path: Path) -> None:
    """Write an SVG picture that says how many cases pass."""
    passed = sum(row.status == PASSED for row in summary.rows)
    share = passed / max(1, len(summary.rows))
    left = escape(summary.runtime)
    right = "not run" if summary.unavailable else f"{passed} of {len(summary.rows)}"
    widths = 7 * len(summary.runtime) + 12, 7 * len(right) + 12
    colour = "#2e7d32" if share > 0.95 else "#946200" if share > 0.7 else "#c62828"
    write_text(
        str(path),
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{sum(widths)}" height="20" role="img" '
        f'aria-label="{left}: {right}">'
        f'<rect width="{widths[0]}" height="20" fill="#444"/>'
        f'<rect x="{widths[0]}" width="{widths[1]}" height="20" fill="{colour}"/>'
        f'<g fill="#fff" font-family="Verdana,sans-serif" font-size="11" text-anchor="middle">'
        f'<text x="{widths[0] / 2}" y="14">{left}</text><text x="{widths[0] + widths[1] / 2}" y="14">{right}</text></g>'
        f"</svg>\n",
    )


def write_matrix(summaries: Sequence[Summary], path: Path) -> None:
    """Write a page: runtimes beside each other, operators by opset and type, histograms of distances."""
    runs = [as_data(summary) | {"histogram": histogram(summary.rows)} for summary in summaries]
    data = json.dumps({"runs": runs}, allow_nan=False).replace("<", "\\u003c")
    write_text(str(path), _PAGE.read_text(encoding="utf-8").replace(_DATA, data))
