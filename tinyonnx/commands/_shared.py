"""Arguments that subcommands share, and text output: tables, numbers with units."""

from __future__ import annotations

import argparse
import json
import os
import runpy
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np

from tinyonnx.commands._terminal import warn, width
from tinyonnx.errors import InputError, printable
from tinyonnx.files import check_file, check_folder
from tinyonnx.ir import Array
from tinyonnx.ort.options import PRECISIONS, GraphOptimizationLevel, SessionOptions
from tinyonnx.ort.session import InferenceSession
from tinyonnx.tools.compare import TOLERANCE
from tinyonnx.tools.feeds import DEFAULT_SIZE, HasInputs, load_arrays, make_feeds, parse_dim, parse_input
from tinyonnx.tools.inspect import inspect_plan, report_rewritten
from tinyonnx.tools.report import Report


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments for a model and its inputs."""
    parser.add_argument("model", metavar="MODEL.onnx")
    parser.add_argument(
        "--input", action="append", type=checked(parse_input), default=[],
        metavar="NAME=FILE.npy|NAME=shape:1,1,128,1000",
        help="an array from a file, or noise of a shape (default: noise)",
    )  # fmt: skip
    parser.add_argument(
        "--dim", action="append", type=checked(parse_dim), default=[], metavar="NAME=N",
        help=f"size of a symbolic dimension (default: 1 if it is the first one of an input, else {DEFAULT_SIZE})",
    )  # fmt: skip
    parser.add_argument("--inputs", metavar="FILE.npz", help="arrays by input name, as written by np.savez")
    parser.add_argument(
        "--ops", action="append", default=[], metavar="FILE.py",
        help="run a Python file that registers the model's own operators with tinyonnx.op",
    )  # fmt: skip
    parser.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="seed of noise (default: %(default)s)")


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Declare the argument for the type of the operands of products."""
    parser.add_argument(
        "--precision", choices=PRECISIONS, default=PRECISIONS[0],
        help="bfloat16: round operands of large products, where the processor has AVX512-BF16 (default: %(default)s)",
    )  # fmt: skip


def checked(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return `parse` as the type of an argument: an InputError that it raises is reported as wrong usage."""

    def parse_argument(text: str) -> Any:
        try:
            return parse(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_argument


def at_least(least: float, kind: type[float] = int) -> Callable[[str], float]:
    """Return the argument type for a finite number not below `least`."""

    def parse(text: str) -> float:
        number = kind(text)
        if not least <= number < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not a number of at least {least}")
        return number

    parse.__name__ = "number"
    return parse


def add_against(parser: argparse.ArgumentParser, activations: bool = False) -> None:
    """Declare the other side of a comparison, which with `activations` may be a file of them, and the tolerance."""
    parser.add_argument(
        "--against", required=True,
        metavar=f"reference|onnxruntime|unoptimized|OTHER.onnx{'|ACTS.npz' if activations else ''}",
        help="onnx's reference, onnxruntime (if installed), the file's own nodes in numpy, "
        + ("" if activations else "or ") + "a model with the same tensor names"
        + (", or a file written by `trace --save`" if activations else ""),
    )  # fmt: skip
    parser.add_argument(
        "--tolerance", type=at_least(0, float), default=TOLERANCE, metavar="X",
        help="greatest difference relative to the scale of a tensor (default: %(default)g)",
    )  # fmt: skip


def add_html(parser: argparse.ArgumentParser) -> None:
    """Declare the argument for a page."""
    parser.add_argument("--html", metavar="REPORT.html", help="write a page with graph, table and details of each node")


def new_report(title: str, session: InferenceSession, feeds: Mapping[str, Array]) -> Report:
    """Return a report on the plan of a session, to which a command adds its own numbers."""
    plan = session.plan_for(None, feeds)
    report = Report(f"{title} {os.path.basename(session.name)}", report_rewritten(session, feeds, plan.graph))
    report.add_plan(inspect_plan(session, feeds))
    report.add_remarks(plan.remarks)
    return report


def add_json(parser: argparse.ArgumentParser, content: str) -> None:
    """Declare the argument for machine-readable output; `content` describes it."""
    parser.add_argument(
        "--json", action="store_true", help=f"print JSON instead, NaN and infinities as strings: {content}"
    )


def open_session(args: argparse.Namespace, optimised: bool = True, threads: int = 1) -> InferenceSession:
    """Load the model that the arguments name, unless they name it for an output, too, or an output can't be written.

    Raises the errors of `InferenceSession` and `use_operators`; OSError of outputs; SystemExit for wrong usage.
    """
    for option in ("save", "output", "html", "trace", "folder"):
        path = getattr(args, option, None)
        if not isinstance(path, str):  # tensors to print, for `run`
            continue
        if os.path.exists(path) and os.path.exists(args.model) and os.path.samefile(args.model, path):
            args.parser.error(f"--{option} {printable(path)} would overwrite the model")
        (check_folder if option == "folder" else check_file)(path)
    use_operators(args.ops)
    precision = getattr(args, "precision", PRECISIONS[0])
    session = InferenceSession(args.model, session_options(optimised, threads, precision))
    if optimised and session.precision != precision:
        print(f"tinyonnx: runs {session.precision}: this processor lacks AVX512-BF16", file=sys.stderr)
    return session


def session_options(optimised: bool = True, threads: int = 1, precision: str = PRECISIONS[0]) -> SessionOptions:
    """Return options of a session that runs the plan, or the file's own nodes in numpy."""
    options = SessionOptions()
    options.precision = precision
    options.intra_op_num_threads = threads
    if not optimised:
        options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


_used: set[str] = set()


def use_operators(paths: Sequence[str]) -> None:
    """Run Python files that register operators, each once. Raises InputError, with line and cause, if one fails."""
    for path in paths:
        place = os.path.abspath(path)
        if place in _used:
            continue
        try:
            runpy.run_path(path, run_name=f"operators in {os.path.basename(path)}")
        except OSError:
            raise
        except Exception as error:
            lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
            line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
            where = path if line is None else f"{path}, line {line}"
            raise InputError(f"--ops {where}: {type(error).__name__}: {error}") from error
        _used.add(place)


def feeds_of(args: argparse.Namespace, session: HasInputs, numbers: bool = True) -> dict[str, Array]:
    """Return the inputs that the arguments describe, or only their shapes; report generated sizes on stderr.

    Raises the errors of `make_feeds`.
    """
    given, dims = dict(args.input), dict(args.dim)
    arrays = load_arrays(args.inputs) if args.inputs else {}
    feeds = make_feeds(session, given, dims, args.seed if numbers else None, arrays=arrays)
    named = set(given) | set(arrays)
    for arg in session.get_inputs():
        open_dims = [d for d in arg.shape if not isinstance(d, int) and d not in dims]
        if open_dims and arg.name not in named:
            shape = ",".join(map(str, feeds[arg.name].shape))
            print(f"tinyonnx: generated --input {printable(arg.name)}=shape:{shape}", file=sys.stderr)
    return feeds


def print_json(value: Any) -> None:
    """Print a value, dataclasses included, as JSON; NaN and infinities, which JSON lacks, become strings."""
    print(json.dumps(_plain(value), indent=1, allow_nan=False))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value


_NARROWEST = 12
"""Minimum number of characters to which a column is cut."""

_PATHS = ("node", "name", "tensor", "layer", "result")
"""Titles of columns that are cut at the front, because the ends of paths tell them apart."""


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = (), problems: Collection[int] = ()) -> str:
    """Format rows, the first of them titles, in columns; those numbered in `right` are right-aligned.

    On a terminal, the widest left-aligned columns are cut so that lines fit, and the rows numbered in `problems` are
    coloured.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = _fitted([max(len(row[column]) for row in cells) for column in range(len(cells[0]))], right)
    lines = []
    for number, row in enumerate(cells):
        cut = [_cut(c, w, title in _PATHS) for c, w, title in zip(row, widths, rows[0])]
        padded = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(cut, widths))]
        line = "  ".join(padded).rstrip()
        lines.append(warn(line) if number in problems else line)
    return "\n".join(lines)


def _fitted(widths: list[int], right: Sequence[int]) -> list[int]:
    """Return the widths of columns, reduced to those of a terminal."""
    columns = width()
    text = [i for i in range(len(widths)) if i not in right and widths[i] > _NARROWEST]
    widths = list(widths)
    while columns is not None and text and sum(widths) + 2 * (len(widths) - 1) > columns:
        widest = max(text, key=lambda i: widths[i])
        if widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
    return widths


def _cut(text: str, size: int, at_front: bool) -> str:
    if len(text) <= size:
        return text
    return "…" + text[1 - size :] if at_front else text[: size - 1] + "…"


def shape_text(shape: Sequence[Any] | None) -> str:
    """Format a shape: 1×128×t; "?" for an unknown size or rank."""
    if shape is None:
        return "?"
    return "×".join("?" if d is None else printable(str(d)) for d in shape) or "scalar"


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: `1 thread`, `2 threads`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def quantity(number: float | None, unit: str = "") -> str:
    """Format a number with three digits and a prefix; "?" for None."""
    if number is None:
        return "?"
    for prefix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= size:
            return f"{number / size:.3g} {prefix}{unit}"
    return f"{number:.3g} {unit}".rstrip()
