"""`onnx-conformance backend`: run the backend suite of the installed onnx on any runtime."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import onnx

from onnx_conformance import ConformanceError
from onnx_conformance.runtimes import RUNTIMES, UNFUSED, find_runtime
from onnx_conformance.runtimes.base import Runtime
from onnx_conformance.suite import reports
from onnx_conformance.suite.cases import Case, load_folder, load_suite
from onnx_conformance.suite.check import CheckCase
from onnx_conformance.suite.expected import EXPECTED_FAILURES, read_expected, surprises
from onnx_conformance.suite.reports import CaseRow, Summary
from onnx_conformance.suite.versus import (
    changes,
    histogram_text,
    read_runs,
    side_by_side,
    write_badge,
    write_markdown,
    write_matrix,
)
from onnx_conformance.workers import PASSED, STATUSES, Job, ReadVersion, run_jobs, version_in
from tinyonnx.commands._shared import table
from tinyonnx.errors import printable
from tinyonnx.files import check_file

WORST_SHOWN = 30
MESSAGE_SHOWN = 240


def add(commands: Any) -> None:
    """Declare the command."""
    command = commands.add_parser("backend", help="run onnx's backend suite on a runtime")
    command.add_argument(
        "--runtime", type=checked_runtime, action="append", metavar="NAME",
        help=f"{', '.join(RUNTIMES)}, backend:PACKAGE.MODULE or command:PROGRAM; give it several times to compare them "
        "(default: tinyonnx)",
    )  # fmt: skip
    command.add_argument(
        "--folder", type=Path, action="append", default=[], metavar="DIR",
        help="folders of cases, each with model.onnx and test_data_set_*, instead of onnx's suite",
    )  # fmt: skip
    command.add_argument("--match", type=_pattern, metavar="REGEX", help="only cases whose names match")
    command.add_argument(
        "--jobs",
        type=_count,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes (default: one per CPU)",
    )
    command.add_argument(
        "--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="time limit of a case (default: %(default)g)"
    )
    command.add_argument(
        "--expected", type=Path, metavar="FILE",
        help="expected failures, one name and reason per line (default: those of tinyonnx)",
    )  # fmt: skip
    command.add_argument("--ulp", action="store_true", help="report distances in representable numbers")
    command.add_argument("--json", type=Path, metavar="FILE", help="write every case as JSON")
    command.add_argument("--html", type=Path, metavar="FILE", help="write a searchable page of one runtime")
    command.add_argument(
        "--matrix", type=Path, metavar="FILE", help="write a page of all runtimes: operators by opset and type"
    )
    command.add_argument("--markdown", type=Path, metavar="FILE", help="write tables for a README")
    command.add_argument("--badge", type=Path, metavar="FILE.svg", help="write a badge of the first runtime")
    command.add_argument(
        "--before", type=Path, metavar="FILE", help="compare with an earlier --json; fail if it was better"
    )
    command.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML for continuous integration")
    command.set_defaults(run=_backend)


def checked_runtime(name: str) -> Runtime:
    """Return a runtime, as the type of an argument."""
    try:
        return find_runtime(name)
    except ConformanceError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _backend(args: argparse.Namespace) -> bool:
    runtimes: list[Runtime] = args.runtime or [RUNTIMES["tinyonnx"]]
    for runtime in runtimes:
        runtime.check_installed()
    if args.html and len(runtimes) > 1:
        raise ConformanceError("--html reports on one runtime; use --matrix for several")
    for path in filter(None, (args.json, args.html, args.matrix, args.markdown, args.badge, args.junit)):
        check_file(str(path))
    before = read_runs(args.before) if args.before else []
    suite = [case for folder in args.folder for case in load_folder(folder)] if args.folder else load_suite()
    return run_backend(runtimes, suite, before, args)


def _expected(runtime: Runtime, args: argparse.Namespace) -> dict[str, str]:
    """Return the expected failures of a runtime: those of the file, or tinyonnx's own on onnx's suite."""
    ours = runtime.name in ("tinyonnx", UNFUSED) and not args.folder
    return read_expected(args.expected or EXPECTED_FAILURES) if ours or args.expected else {}


def run_backend(
    runtimes: Sequence[Runtime], suite: Sequence[Case], before: list[dict[str, Any]], args: argparse.Namespace
) -> bool:
    """Run cases, print reports, write the files of the arguments; return whether all results are as expected."""
    cases = [case for case in suite if args.match is None or args.match.search(case.name)]
    if not cases:
        raise ConformanceError(f"no case of the suite matches {args.match.pattern!r}")
    names = {case.name for case in suite}
    summaries = _summaries(runtimes, cases, names, args)
    available = [summary for summary in summaries if not summary.unavailable]
    if not available:
        raise ConformanceError("; ".join(summary.unavailable for summary in summaries))
    if len(available) > 1:
        print(side_by_side(available), end="\n\n")
    for summary in summaries:
        print(text_report(summary, args.ulp, brief=len(summaries) > 1))
    worse = False
    for summary in available if before else ():
        changed = changes(before, summary)
        worse = worse or bool(changed.worse)
        print(f"\n{summary.runtime} since {args.before}: {changed.text()}")
    _write(summaries, args)
    return not worse and not any(summary.surprises for summary in summaries)


def _summaries(
    runtimes: Sequence[Runtime], cases: Sequence[Case], names: set[str], args: argparse.Namespace
) -> list[Summary]:
    """Run the cases on every runtime. If interrupted, report those that are finished."""
    summaries: list[Summary] = []
    try:
        for runtime in runtimes:
            summaries.append(_summary(runtime, cases, names, args))
    except KeyboardInterrupt:
        if summaries:
            for summary in summaries:
                print(text_report(summary, args.ulp, brief=True))
            _write(summaries, args)
            finished = ", ".join(summary.runtime for summary in summaries)
            print(f"\ninterrupted; the reports have the results of {finished}", file=sys.stderr)
        raise
    return summaries


def _summary(runtime: Runtime, cases: Sequence[Case], names: set[str], args: argparse.Namespace) -> Summary:
    expected = _expected(runtime, args)
    if args.match is not None:
        expected = {name: reason for name, reason in expected.items() if args.match.search(name)}
    started = time.perf_counter()
    label = ", ".join(map(str, args.folder)) or f"suite of onnx {onnx.__version__}"
    try:
        version, rows = _run(runtime, cases, expected, args)
    except ConformanceError as error:
        cause = printable(" ".join(str(error).split()))  # the log of a process that died has many lines
        return Summary(runtime.name, "", time.perf_counter() - started, [], [f"{runtime.name}: {cause}"], label, cause)
    found = surprises({row.name: row.status == PASSED for row in rows}, expected, names)
    return Summary(runtime.name, version, time.perf_counter() - started, rows, found, label)


def _write(summaries: Sequence[Summary], args: argparse.Namespace) -> None:
    several: list[tuple[Callable[[Sequence[Summary], Path], None], Path | None]] = [
        (reports.write_json, args.json), (reports.write_junit, args.junit),
        (write_markdown, args.markdown), (write_matrix, args.matrix),
    ]  # fmt: skip
    for write, path in several:
        if path is not None:
            write(summaries, path)
    if args.html is not None:
        reports.write_html(summaries[0], args.html)
    if args.badge is not None:
        write_badge(summaries[0], args.badge)


def _run(
    runtime: Runtime, cases: Sequence[Case], expected: dict[str, str], args: argparse.Namespace
) -> tuple[str, list[CaseRow]]:
    """Return the version of a runtime, and its results. Raises ConformanceError if it can't be started."""
    outcomes = {}
    progress = sys.stderr.isatty()
    jobs: list[Job] = [*(CheckCase(case, args.ulp) for case in cases), ReadVersion()]
    with closing(run_jobs(jobs, runtime, min(args.jobs, len(cases)), args.timeout)) as results:
        for index, outcome in results:
            outcomes[index] = outcome
            if progress:
                print(f"\r{min(len(outcomes), len(cases))} of {len(cases)}", end="", file=sys.stderr, flush=True)
    if progress:
        print("\r\033[K", end="", file=sys.stderr)
    rows = [
        CaseRow(
            case.name, case.kind, case.operator, *_fields(outcomes[i]), expected.get(case.name), case.opset, case.type
        )
        for i, case in enumerate(cases)
    ]
    return version_in(outcomes[len(cases)]), rows


def _fields(outcome: Any) -> tuple[str, str, float, float | None]:
    return outcome.status, outcome.message, outcome.seconds, outcome.ulp


# -- text -------------------------------------------------------------------------------


def text_report(summary: Summary, ulp: bool = False, brief: bool = False) -> str:
    """Return tables by kind and, unless `brief`, by operator, the greatest distances, times, and unexpected results."""
    if summary.unavailable:
        return f"{summary.title}: not run, {summary.unavailable}"
    rows = summary.rows
    parts = [] if brief else [_counts("operator", rows, lambda row: row.operator)]
    parts.append(_counts("kind", rows, lambda row: row.kind))
    if ulp:
        parts.append(histogram_text(summary))
        worst = sorted((row for row in rows if row.ulp), key=lambda row: -(row.ulp or 0))[:WORST_SHOWN]
        titles = ("greatest distances of cases that pass", "operator", "ULP")
        parts.append(table([titles, *((row.name, row.operator, f"{row.ulp:g}") for row in worst)], right=[2]))
    passed = sum(row.status == PASSED for row in rows)
    times = [row.seconds for row in rows if row.status == PASSED]
    typical = f", {median(times) * 1e3:.1f} ms to load and first run a model (median)" if times else ""
    if summary.surprises:
        messages = {row.name: row.message.partition("\n")[0][:MESSAGE_SHOWN] for row in rows}
        causes = (messages.get(line.partition(":")[0]) for line in summary.surprises)
        lines = [f"{line}: {cause}" if cause else line for line, cause in zip(summary.surprises, causes, strict=True)]
        parts.append("\n".join(["not as expected:", *lines]))
    expected = sum(row.expected is not None and row.status != PASSED for row in rows)
    listed = f", {expected} expected to fail" if expected else ""
    parts.append(
        f"{summary.title}: {passed} of {len(rows)} passed{listed}, "
        f"{len(summary.surprises)} not as expected; {summary.seconds:.0f} s{typical}"
    )
    return "\n\n".join(parts)


def _counts(title: str, rows: Sequence[CaseRow], key: Any) -> str:
    """Count cases by status for each value of a key; statuses without cases get no column."""
    statuses = [s for s in STATUSES if s in STATUSES[:3] or any(row.status == s for row in rows)]
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        counts.setdefault(key(row), Counter())[row.status] += 1
    lines: list[tuple[str, ...]] = [(title, *statuses, "all")]
    for name in sorted(counts, key=str.lower):
        lines.append((name, *(str(counts[name][s] or "") for s in statuses), str(counts[name].total())))
    total = Counter(row.status for row in rows)
    lines.append(("total", *(str(total[s]) for s in statuses), str(total.total())))
    return table(lines, right=range(1, len(statuses) + 2))
