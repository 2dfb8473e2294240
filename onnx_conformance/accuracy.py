"""`onnx-conformance accuracy`: one model on two runtimes, or two models, over real inputs: errors and decisions."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, ValueInfoProto, numpy_helper

from onnx_conformance import ConformanceError
from onnx_conformance.runtimes import RUNTIMES
from onnx_conformance.runtimes.base import Runtime
from onnx_conformance.suite.command import checked_runtime
from onnx_conformance.workers import PASSED, Bench, RunModel
from tinyonnx.commands._shared import at_least, plural, table
from tinyonnx.files import check_file, write_text
from tinyonnx.tools.compare import difference
from tinyonnx.tools.surgery import copy_of, open_model

Inputs = Mapping[str, Any]


@dataclass
class TensorError:
    """The error of a tensor over all inputs, relative to its scale; `worst_input` has the greatest."""

    name: str
    operator: str
    errors: list[float] = field(default_factory=list)
    worst: float = 0.0
    worst_input: str = ""

    def add(self, error: float, source: str) -> None:
        """Count one input."""
        self.errors.append(error)
        if error >= self.worst:
            self.worst, self.worst_input = error, source


@dataclass(frozen=True)
class DecisionChange:
    """A decision, the position of the greatest number, that differs with the other runtime."""

    source: str
    output: str
    place: list[int]
    ours: int
    other: int
    margin: float


@dataclass
class AccuracyReport:
    """Errors by output and by layer, the decisions that changed, and the number of decisions."""

    sides: tuple[str, str]
    inputs: int
    outputs: list[TensorError]
    layers: list[TensorError]
    decisions: int
    changed: list[DecisionChange]


def add(commands: Any) -> None:
    """Declare the command."""
    command = commands.add_parser("accuracy", help="compare two runtimes or models on real inputs")
    command.add_argument("model", type=Path, metavar="MODEL.onnx")
    command.add_argument(
        "--inputs", type=Path, required=True, metavar="DIR",
        help="files .npz with arrays by input name, .npy for models of one input, or folders test_data_set_*",
    )  # fmt: skip
    command.add_argument(
        "--runtime", type=checked_runtime, action="append", metavar="NAME",
        help="the one under test, then the other (default: tinyonnx, onnxruntime; with --against both are onnxruntime)",
    )  # fmt: skip
    command.add_argument("--against", type=Path, metavar="OTHER.onnx", help="another precision of the model")
    command.add_argument("--layers", action="store_true", help="compare all tensors, which turns fusions off")
    command.add_argument(
        "--tolerance", type=at_least(0, float), default=1e-3,
        help="greatest error of an output, relative to its scale (default: %(default)g)",
    )  # fmt: skip
    command.add_argument("--timeout", type=at_least(1, float), default=600.0, metavar="SECONDS", help="of one input")
    command.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    command.set_defaults(run=_accuracy)


def _accuracy(args: argparse.Namespace) -> bool:
    runtimes: list[Runtime] = args.runtime or []
    defaults = ("onnxruntime", "onnxruntime") if args.against else ("tinyonnx", "onnxruntime")
    if len(runtimes) > 2:
        raise ConformanceError(f"compares two runtimes, not {len(runtimes)}")
    runtimes = (runtimes + [RUNTIMES[name] for name in defaults][len(runtimes) :])[:2]
    for runtime in runtimes:
        runtime.check_installed()
    if args.json:
        check_file(str(args.json))
    report = measure(args, runtimes)
    print(text_report(report, args.tolerance))
    if args.json:
        write_text(str(args.json), json.dumps(asdict(report), indent=1) + "\n")
    return all(output.worst <= args.tolerance for output in report.outputs)


def measure(args: argparse.Namespace, runtimes: Sequence[Runtime]) -> AccuracyReport:
    """Run all inputs on both sides. Raises ConformanceError if a side can't run one, or there are none."""
    models = [open_model(str(args.model)), open_model(str(args.against or args.model))]
    initialised = {tensor.name for tensor in models[0].graph.initializer}
    needed = [value.name for value in models[0].graph.input if value.name not in initialised]
    files = args.against or args.model
    sides = (f"{args.model.name} on {runtimes[0].name}", f"{files.name} on {runtimes[1].name}")
    names = [[value.name for value in model.graph.output] for model in models]
    if len(names[0]) != len(names[1]):
        raise ConformanceError(f"{args.model} has {len(names[0])} outputs, {files} has {len(names[1])}")
    operators = {name: node.op_type for node in models[0].graph.node for name in node.output}
    report = AccuracyReport(sides, 0, [TensorError(name, operators.get(name, "")) for name in names[0]], [], 0, [])
    layers: dict[str, TensorError] = {}
    shown = [_with_all_outputs(model) for model in models]
    with Bench([runtimes[0]], args.timeout) as one, Bench([runtimes[1]], args.timeout) as two:
        for source, feeds in read_inputs(args.inputs, needed):
            report.inputs += 1
            pair = [_run(b, r, m, feeds, source) for b, r, m in zip((one, two), runtimes, models)]
            for error, ours, other in zip(report.outputs, *pair, strict=True):
                error.add(_error(ours, other), source)
                _decide(report, source, error.name, ours, other)
            if args.layers:
                tensors = [_run(b, r, m, feeds, source) for b, r, m in zip((one, two), runtimes, shown)]
                found = [dict(zip((v.name for v in m.graph.output), t)) for m, t in zip(shown, tensors)]
                for name in (name for name in found[0] if name in found[1]):
                    layers.setdefault(name, TensorError(name, operators.get(name, "")))
                    layers[name].add(_error(found[0][name], found[1][name]), source)
    report.layers = list(layers.values())
    return report


def _with_all_outputs(model: ModelProto) -> ModelProto:
    """Return a model whose tensors are all outputs, in the order of the nodes."""
    shown = copy_of(model)
    del shown.graph.output[:]
    for node in model.graph.node:
        shown.graph.output.extend(ValueInfoProto(name=name) for name in node.output if name)
    return shown


def _run(bench: Bench, runtime: Runtime, model: ModelProto, feeds: Inputs, source: str) -> list[Any]:
    own = {value.name for value in model.graph.input}
    job = RunModel(model.SerializeToString(), [{name: array for name, array in feeds.items() if name in own}])
    outcome = bench.run(job)[runtime.name]
    if outcome.status != PASSED or outcome.outputs is None:
        raise ConformanceError(f"{source}: {runtime.name}: {' '.join(outcome.message.split())}")
    return outcome.outputs[0]


def _error(ours: Any, other: Any) -> float:
    """Return the greatest difference relative to the scale; infinity if shapes or kinds of type differ."""
    a, b = np.asarray(ours), np.asarray(other)
    if a.shape != b.shape or a.dtype.kind in "OUS":
        return 0.0 if a.shape == b.shape and np.array_equal(a, b) else float("inf")
    return float(difference(a, b.astype(a.dtype) if a.dtype != b.dtype else b)[1])


def _decide(report: AccuracyReport, source: str, name: str, ours: Any, other: Any) -> None:
    """Compare the positions of the greatest numbers along the last axis."""
    a, b = np.asarray(ours), np.asarray(other)
    if a.shape != b.shape or a.dtype.kind != "f" or not a.ndim or a.shape[-1] < 2 or not a.size:
        return
    first, second = a.argmax(-1), b.argmax(-1)
    report.decisions += int(first.size)
    for place in np.argwhere(np.atleast_1d(first != second)):
        at = tuple(int(i) for i in place) if first.ndim else ()
        row = b[at]
        margin = float(row[second[at]] - row[first[at]])
        report.changed.append(DecisionChange(source, name, list(at), int(first[at]), int(second[at]), margin))


# -- inputs -----------------------------------------------------------------------------------


def read_inputs(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each input of a folder with its name. Raises ConformanceError if it has none, or one lacks an array."""
    found = False
    for path in sorted(folder.rglob("*") if folder.is_dir() else [folder]):
        feeds = _read(path, names)
        if feeds is None:
            continue
        found = True
        if missing := [name for name in names if name not in feeds]:
            raise ConformanceError(f"{path} has no {', '.join(missing)}; the model's inputs are {', '.join(names)}")
        yield (str(path.relative_to(folder)) if path != folder else path.name), feeds
    if not found:
        raise ConformanceError(f"{folder}: has no .npz, .npy or test_data_set_*")


def _read(path: Path, names: Sequence[str]) -> dict[str, Any] | None:
    """Return the arrays of a file or a folder by input name; None if it is neither kind."""
    try:
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                return dict(arrays)
        if path.suffix == ".npy":
            return {names[0]: np.load(path)} if len(names) == 1 else {}
        if path.is_dir() and path.name.startswith("test_data_set_"):
            return {
                name: numpy_helper.to_array(onnx.load_tensor(str(path / f"input_{i}.pb")))
                for i, name in enumerate(names) if (path / f"input_{i}.pb").exists()
            }  # fmt: skip
    except Exception as error:  # a damaged file fails in many ways
        raise ConformanceError(f"{path}: {error}") from error
    return None


# -- text -------------------------------------------------------------------------------------


def text_report(report: AccuracyReport, tolerance: float) -> str:
    """Return errors by output and by layer, and the decisions that changed."""
    parts = [f"{report.sides[0]}, against {report.sides[1]}, {plural(report.inputs, 'input')}"]
    for title, errors in (("output", report.outputs), ("layer", report.layers)):
        if errors:
            lines = [(title, "operator", "median error", "greatest", "", "in")]
            for e in errors:
                mark = "OVER" if e.worst > tolerance else ""
                lines.append((e.name, e.operator, f"{np.median(e.errors):.1e}", f"{e.worst:.1e}", mark, e.worst_input))
            parts.append(table(lines, right=[2, 3]))
    if report.decisions:
        parts.append(f"{len(report.changed)} of {report.decisions} decisions changed")
    changed = [f"{c.source}: {c.output}{c.place or ''}: {c.ours}, not {c.other}, which leads by {c.margin:.3g}"
             for c in report.changed]  # fmt: skip
    if changed:
        parts.append("\n".join(changed))
    return "\n\n".join(parts)
