"""Compare speed and memory with other runtimes; without a command run everything and print a summary.

Runtimes that are not installed are shown as absent: pip install -e '.[benchmarks]'.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import tinyonnx
from audiotag.errors import Error as AudiotagError
from audiotag.options import number
from benchmarks import audio, machine, model, report, start, zoo
from benchmarks.turns import Case
from tinyonnx.codegen.processor import has_bfloat16
from tinyonnx.ort.options import PRECISIONS

T = TypeVar("T", int, float)

REPEATS, STARTS, FIRST_STARTS = 30, 10, 3
"""Default numbers of timed runs: per contender, of warm whole processes, and of whole processes that compile first."""

LENGTH_REPEATS = 6
"""Default number of timed runs over many lengths."""

CRAWL_REPEATS = 5
"""Default number of timed processes that tag many files."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print the results and return the exit code."""
    parser = make_parser()
    args = parser.parse_args(argv)
    facts, peak = machine.facts(), machine.fma_peak()
    if not args.json:
        print(f"{report.machine_line(facts, peak)}\n{report.LEGEND}")
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for case in args.cases(args, folder):
                cases.append(case)
                if args.json:
                    continue
                if case.part == "zoo":
                    print(f"{case.title}: {report.zoo_ratio(case)}", flush=True)
                else:
                    print(f"\n{report.details(case, peak)}", flush=True)
        except model.UsageError as error:
            parser.error(str(error))
        except (tinyonnx.Error, AudiotagError) as error:
            print(f"{parser.prog}: {error}", file=sys.stderr)
            return 1
    if args.json:
        print(json.dumps(report.to_json(facts, peak, cases), indent=1, allow_nan=False))
    elif args.cases is zoo_cases:
        print(f"\n{report.zoo(cases)}")
    elif args.cases is everything:
        print(f"\n{report.summary(cases)}")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(cases=everything, json=False, repeats=None)
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    for each in (parser, common):
        each.add_argument(
            "--repeats",
            type=number,
            metavar="N",
            default=argparse.SUPPRESS,
            help="timed runs per contender",
        )
        each.add_argument(
            "--json",
            action="store_true",
            default=argparse.SUPPRESS,
            help="print JSON instead of tables",
        )
    commands = parser.add_subparsers(metavar="COMMAND")

    def add(
        name: str, cases: Callable[[argparse.Namespace, str], Iterable[Case]], text: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[common], help=text, description=text)
        command.set_defaults(cases=cases)
        return command

    one = add(
        "model",
        model_cases,
        "one model, all peers; several comma-separated values make a table each",
    )
    one.add_argument(
        "model",
        nargs="?",
        default="mn10",
        help="FILE.onnx, or mn04, mn10, …: seeded random weights",
    )
    one.add_argument(
        "--seconds",
        type=several(float),
        metavar="S,…",
        help="length of the clip (audio models; 10)",
    )
    one.add_argument(
        "--batch",
        type=several(int),
        metavar="N,…",
        help="clips at a time (audio models; 1)",
    )
    one.add_argument("--threads", type=several(int), default=[1], metavar="N,…", help="threads (1)")
    one.add_argument(
        *("--shape", "-s"), type=input_shape, action="append", default=[], metavar="NAME:1,3,48,320",
        help="shape of an input of any other model; may be repeated",
    )  # fmt: skip
    lengths = add(
        "lengths",
        lengths_cases,
        "one audio model on clips that all differ in length, beside peers with dynamic shapes",
    )
    lengths.add_argument("model", nargs="?", default="mn10", help="FILE.onnx, or mn04, mn10, … (mn10)")
    lengths.add_argument("--count", type=number, default=150, metavar="N", help="lengths between 1 and 10 s (150)")
    lengths.add_argument("--threads", type=number, default=1, metavar="N", help="threads (1)")
    crawl = add(
        "crawl",
        crawl_cases,
        "CPU time of processes that tag WAV files of different lengths, beside equal lengths and a minimal script",
    )
    crawl.add_argument("--model", default="mn10", metavar="MODEL", help="FILE.onnx, or mn04, mn10, … (mn10)")
    crawl.add_argument("--count", type=number, default=400, metavar="N", help="files of 1 to 10 s (400)")
    small = add("zoo", zoo_cases, "models of many families beside ONNX Runtime, in one table")
    small.add_argument("names", nargs="*", metavar="NAME", help="models or families (all)")
    small.add_argument("--threads", type=several(int), default=[1, 2], metavar="N,…", help="threads (1,2)")
    small.add_argument(
        "--quick", action="store_true", help="use cached kernels; measure neither an empty cache nor libraries"
    )
    for name, cases, text in (
        ("mel", mel_cases, "log-mel features beside plain numpy"),
        (
            "clip",
            clip_cases,
            "WAV file to tags, in each precision, beside soundfile, numpy and ONNX Runtime: CPU time",
        ),
        (
            "start",
            start_cases,
            "whole processes, warm and first ever, beside a minimal script",
        ),
    ):
        command = add(name, cases, text)
        command.add_argument(
            "--seconds",
            type=positive,
            default=10.0,
            metavar="S",
            help="length of the clip (10)",
        )
        if name != "mel":
            command.add_argument(
                "--model",
                default="mn10",
                metavar="MODEL",
                help="FILE.onnx, or mn04, mn10, … (mn10)",
            )
        if name == "clip":
            command.add_argument("--threads", type=number, default=1, metavar="N", help="threads (1)")
    return parser


# -- values -------------------------------------------------------------------------------


def positive(text: str) -> float:
    """Parse a length in seconds of at least one sample."""
    value = float(text)
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not in 0.1..3600 seconds")
    return value


def several(kind: type[T]) -> Callable[[str], list[T]]:
    """Make a parser of comma-separated values."""

    def values(text: str) -> list[T]:
        one: Callable[[str], Any] = positive if kind is float else number
        return [one(part) for part in text.split(",")]

    return values


def input_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Parse `name:1,3,48,320`; the name may contain colons, and a scalar has no dimensions."""
    name, colon, dims = text.rpartition(":")
    try:
        shape = tuple(int(dim) for dim in dims.split(",")) if dims else ()
    except ValueError:
        shape = (-1,)
    if not colon or not name or any(dim < 0 for dim in shape):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME:SIZES, for example x:1,3,48,320")
    return name, shape


# -- commands -----------------------------------------------------------------------------


def model_cases(args: argparse.Namespace, folder: str) -> Iterable[Case]:
    """Yield the cases of the command `model`."""
    return model.cases(
        args.model, folder, seconds=args.seconds, batches=args.batch, threads=args.threads,
        repeats=args.repeats or REPEATS, shapes=dict(args.shape),
    )  # fmt: skip


def mel_cases(args: argparse.Namespace, folder: str) -> Iterable[Case]:
    """Yield the cases of the command `mel`."""
    return [audio.mel_case(args.seconds, folder, args.repeats or REPEATS)]


def lengths_cases(args: argparse.Namespace, folder: str) -> Iterable[Case]:
    """Yield the cases of the command `lengths`."""
    repeats = args.repeats or LENGTH_REPEATS
    return [model.lengths_case(args.model, folder, count=args.count, threads=args.threads, repeats=repeats)]


def crawl_cases(args: argparse.Namespace, folder: str) -> Iterable[Case]:
    """Yield the case of the command `crawl`."""
    return [start.crawl_case(args.model, args.count, folder, args.repeats or CRAWL_REPEATS)]


def zoo_cases(args: argparse.Namespace, folder: str) -> Iterable[Case]:
    """Yield the cases of the command `zoo`."""
    return zoo.cases(args.names, folder, threads=args.threads, repeats=args.repeats or REPEATS, quick=args.quick)


def clip_cases(args: argparse.Namespace, folder: str) -> Iterator[Case]:
    """Yield the cases of the command `clip`."""
    for precision in PRECISIONS if has_bfloat16() else PRECISIONS[:1]:
        yield audio.clip_case(args.model, args.seconds, args.threads, folder, args.repeats or REPEATS, precision)


def start_cases(args: argparse.Namespace, folder: str) -> Iterable[Case]:
    """Yield the cases of the command `start`."""
    first = min(args.repeats or FIRST_STARTS, FIRST_STARTS)
    return start.start_cases(args.model, args.seconds, folder, args.repeats or STARTS, first)


EVERYTHING = (
    "model mn10",
    "model mn10 --threads 2",
    "model mn10 --batch 8",
    "model mn10 --seconds 1,5,60",
    "model mn04 --seconds 1,10",
    "lengths mn10",
    "lengths mn04",
    "crawl",
    "crawl --model mn04",
    "mel",
    "clip",
    "start",
)


def everything(args: argparse.Namespace, folder: str) -> Iterator[Case]:
    """Run all benchmarks that the README quotes."""
    parser = make_parser()
    common = ["--repeats", str(args.repeats)] if args.repeats else []
    lines = [line for line in EVERYTHING if "threads 2" not in line or machine.cores() > 1]
    parsed = (parser.parse_args([*line.split(), *common]) for line in lines)
    return itertools.chain.from_iterable(each.cases(each, folder) for each in parsed)


def run() -> int:
    """Run `main`; end without a traceback on a closed pipe or an interrupt."""
    try:
        code = main()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # otherwise the interpreter would raise again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(run())
