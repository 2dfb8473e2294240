"""The `tinyonnx` command. Exit codes: 0 ok, 1 the model or input failed, 2 usage."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

import tinyonnx
from tinyonnx.dtypes import from_onnx_type


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    if sys.stdout is None:
        print("tinyonnx: standard output is closed", file=sys.stderr)
        return 1
    args = _parser().parse_args(argv)
    logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("tinyonnx").setLevel(logging.DEBUG if args.verbose else logging.INFO)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # the reader has gone; keep the interpreter from complaining while it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("tinyonnx: interrupted", file=sys.stderr)
        return 130
    except tinyonnx.Error as error:
        print(f"tinyonnx: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"tinyonnx: {error.filename or 'standard output'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except MemoryError as error:
        print(f"tinyonnx: {error or 'out of memory'}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tinyonnx", description="Run ONNX models without onnxruntime.")
    parser.add_argument("--version", action="version", version=f"tinyonnx {tinyonnx.__version__}")
    parser.add_argument("--verbose", action="store_true", help="say what every pass did and refused, and why")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a model on arrays")
    run.add_argument("model", metavar="MODEL.onnx")
    run.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME=FILE.npy|NAME=shape:1,1,128,1000",
        help="an array from a file, or seeded normal noise of a shape",
    )
    run.add_argument("--output", action="append", metavar="NAME", help="any tensor of the graph (default: all outputs)")
    run.add_argument("--save", metavar="FILE.npz", help="write the results instead of summarising them")
    run.set_defaults(run=_run)

    ops = commands.add_parser("ops", help="list supported operators and the versions where their meaning changed")
    ops.set_defaults(run=_ops)
    return parser


def _run(args: argparse.Namespace) -> int:
    session = tinyonnx.InferenceSession(args.model)
    arguments = {arg.name: arg for arg in session.get_inputs()}
    feeds = {}
    for text in args.input:
        name, equals, source = text.partition("=")
        if not equals:
            raise tinyonnx.InputError(f"--input {text}: expected NAME=FILE.npy or NAME=shape:1,1,128,1000")
        feeds[name] = _feed(source, arguments.get(name))
    names = args.output or [arg.name for arg in session.get_outputs()]
    results = session.run(names, feeds)
    if args.save:
        with open(args.save, "wb") as file:
            np.savez(file, **dict(zip(names, results, strict=True)))
        return 0
    for name, result in zip(names, results, strict=True):
        print(f"{name}: {_summary(result)}")
    return 0


def _feed(source: str, arg: tinyonnx.NodeArg | None) -> np.ndarray[Any, Any]:
    if source.startswith("shape:"):
        try:
            shape = [int(d) for d in source.removeprefix("shape:").split(",") if d.strip()]
            noise = np.random.default_rng(0).standard_normal(shape)
        except ValueError as error:
            raise tinyonnx.InputError(f"{source}: expected dimensions such as shape:1,1,128,1000 ({error})") from error
        return noise.astype(from_onnx_type(arg.type) if arg is not None else np.float32)
    try:
        array: np.ndarray[Any, Any] = np.load(source, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise tinyonnx.InputError(f"{source}: not a .npy file ({error})") from error
    return array


def _summary(result: Any) -> str:
    if not isinstance(result, np.ndarray):
        return repr(result)
    text = f"{result.dtype}{list(result.shape)}"
    if result.size == 0 or result.dtype.kind not in "fiub":
        return text
    numbers = result.astype(np.float64)
    return f"{text} min {numbers.min():.6g} max {numbers.max():.6g} mean {numbers.mean():.6g}"


def _ops(_: argparse.Namespace) -> int:
    import tinyonnx.ops  # noqa: F401  registers them
    from tinyonnx.registry import FUSED, registered

    versions: dict[tuple[str, str], list[int]] = {}
    for op in registered():
        if op.domain != FUSED:
            versions.setdefault((op.domain, op.name), []).append(op.since)
    for (domain, name), since in versions.items():
        print(f"{domain or 'ai.onnx'} {name} {' '.join(map(str, since))}")
    return 0
