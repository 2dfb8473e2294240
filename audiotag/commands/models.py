"""`audiotag models`: list, pull, convert and describe models."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import TYPE_CHECKING, Any

from audiotag.commands import check_outputs
from audiotag.console import show
from audiotag.errors import ModelError, printable
from audiotag.options import number, seconds

if TYPE_CHECKING:
    from audiotag.models.catalog import ResolvedModel
    from audiotag.models.description import Description

HELP = "list, fetch, convert and describe models"
DESCRIPTION = "List, fetch, convert and describe models."

_SECONDS = 10
"""Length of the sound for which models are timed."""

_WARM_UP, _RUNS = 2, 7
"""Runs that load and compile, and runs that count."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="list all models and whether they are on this machine")
    listing.set_defaults(action=_list, parser=listing)

    pull = actions.add_parser("pull", help="download a trained model that its authors have published")
    pull.add_argument("name", metavar="NAME", help="name from `audiotag models list`, for example mn10_as")
    pull.set_defaults(action=_pull, parser=pull)

    convert = actions.add_parser(
        "convert", help="convert a checkpoint of EfficientAT, EfficientSED, PANNs or CED to an ONNX file"
    )
    convert.add_argument(
        "checkpoint", metavar="CHECKPOINT.pt", help="file written by torch.save; nothing in it is executed"
    )
    convert.add_argument("out", metavar="OUT.onnx")
    convert.add_argument("--labels", metavar="FILE", help="classes of a fine-tuned model, in the order of its output")
    convert.add_argument("--hop", type=seconds, metavar="MS", help="milliseconds between frames, if not in the name")
    convert.add_argument("--mels", type=number, metavar="N", help="number of mel bands, if not in the name")
    convert.set_defaults(action=_convert, parser=convert)

    describe = actions.add_parser("describe", help="add to a model the features it expects and its classes")
    describe.add_argument("model", metavar="MODEL.onnx")
    describe.add_argument(
        "--features",
        required=True,
        metavar="NAME|FILE.json",
        help="name of a ready description (see docs/models.md), or a file with one",
    )
    describe.add_argument(
        "--labels", metavar="FILE", help="classes in the order of the output: CSV with a heading, or one name per line"
    )
    describe.add_argument("-o", "--output", required=True, metavar="OUT.onnx", help="path of the described model")
    describe.set_defaults(action=_describe, parser=describe)

    timing = actions.add_parser("time", help="measure models on this machine; the list shows it")
    timing.add_argument("models", metavar="NAME|PATH", nargs="+", help="name from the list, or a file")
    timing.set_defaults(action=_time, parser=timing)

    info = actions.add_parser("info", help="print size, hash, inputs, outputs and origin of a model")
    info.add_argument("model", metavar="NAME|PATH")
    info.set_defaults(action=_info, parser=info)


def run(args: argparse.Namespace) -> int:
    """Run the chosen action and return the exit code. Raises ModelError."""
    args.action(args)
    return 0


def _list(_: argparse.Namespace) -> None:
    from audiotag.models.catalog import DEFAULT, model_path, resolve
    from audiotag.models.releases import MODELS
    from audiotag.models.timing import measured
    from tinyonnx.tools.costs import count_parameters

    def time_of(name: str) -> str:
        milliseconds = measured(name)
        return "-" if milliseconds is None else f"{milliseconds:.1f}"

    rows = [("NAME", "CLASSES", "mAP", "MMAC", "PARAMETERS", "MS PER 10 S", "LICENCE", "SHA256", "STATE")]
    shipped = f"{count_parameters(_session(resolve(DEFAULT)).graph):,}"
    bundled = "the default, bundled with audiotag"
    rows.append((DEFAULT, "527", "-", "107", shipped, time_of(DEFAULT), "MIT", "-", bundled))
    for model in MODELS.values():
        mean_ap = "-" if model.mean_ap is None else f"{model.mean_ap:.3f}"
        mmac, parameters = ("-" if n is None else f"{n:,}" for n in (model.mmac, model.parameters))
        pinned = "pinned" if model.sha256 else "not pinned"
        here = model_path(model.name).exists()
        state, took = ("on this machine", time_of(model.name)) if here else ("not pulled", "-")
        rows.append((model.name, str(model.classes), mean_ap, mmac, parameters, took, model.licence, pinned, state))
    for name, classes, mean_ap, mmac, parameters, took, licence, pinned, state in rows:
        print(
            f"{name:<18}  {classes:>7}  {mean_ap:>5}  {mmac:>6}  {parameters:>10}  {took:>11}  {licence:<10}  "
            f"{pinned:<10}  {state}"
        )


def _time(args: argparse.Namespace) -> None:
    for name in args.models:
        milliseconds = _measure(name)
        print(f"{printable(name)}: {milliseconds:.1f} ms of processor time for {_SECONDS} s of sound, on one thread")


def _measure(name: str) -> float:
    """Measure how long a model takes to tag noise, front end included; keep and return the median."""
    import numpy as np

    from audiotag.models.timing import keep
    from audiotag.tagger import Tagger

    tagger = Tagger(name)
    noise = np.random.default_rng(0).standard_normal(_SECONDS * tagger.rate).astype(np.float32) / 10
    times = []
    for _ in range(_WARM_UP + _RUNS):
        start = time.process_time()
        tagger.tag(noise, tagger.rate)
        times.append(1000 * (time.process_time() - start))
    milliseconds = statistics.median(times[_WARM_UP:])
    keep(tagger.model, milliseconds)
    return milliseconds


def _pull(args: argparse.Namespace) -> None:
    from audiotag.models.catalog import pull, resolve
    from audiotag.models.releases import MODELS

    def progress(have: int, total: int | None) -> None:
        of = f" of {total / 1e6:.1f} MB ({have / total:.0%})" if total else " MB"
        show(f"{args.name}: {have / 1e6:.1f}{of}")

    try:
        path = pull(args.name, progress=progress)
    finally:
        show("")
    print(f"{args.name} is at {printable(str(path))}")
    if MODELS[args.name].sha256 is None:
        print(f"Its sha256 is not pinned in audiotag; origin of this file: {_origin(_session(resolve(args.name)))}")


def _convert(args: argparse.Namespace) -> None:
    from audiotag.models.catalog import convert, sha256_of
    from audiotag.models.description import KEY, parse
    from audiotag.models.metadata import read_metadata

    check_outputs(files=[args.out])
    convert(args.checkpoint, args.out, args.labels, args.hop, args.mels)
    print(f"{printable(args.out)}: sha256 {sha256_of(args.out)}")
    print(summary(parse(read_metadata(args.out)[KEY])))


def _describe(args: argparse.Namespace) -> None:
    from audiotag.models.describe import describe, description_of

    check_outputs(files=[args.output])
    network = describe(args.model, description_of(args.features, args.labels), args.output)
    print(f"{printable(args.output)}: {summary(network.description)}")


def summary(description: Description) -> str:
    """Describe the input of a model in one line."""
    features = description.features
    expected = (
        "waveform"
        if features is None
        else f"{features.n_mels} mel bands every {1000 * features.hop / features.rate:g} ms"
    )
    frames = f", {description.frames.rate:g} frames per second" if description.frames else ""
    return f"{expected} at {description.rate} Hz, {len(description.labels)} classes{frames}, {description.output}"


def _info(args: argparse.Namespace) -> None:
    from audiotag.models.catalog import resolve
    from audiotag.models.network import Network
    from tinyonnx.tools.costs import count_parameters

    model = resolve(args.model)
    session = _session(model)
    graph = session.graph
    outputs = session.get_outputs()
    logits = [o for o in outputs if o.name == "logits"] or outputs
    classes = logits[0].shape[-1] if logits and logits[0].shape else "?"
    facts = {
        "name": model.name,
        "about": model.note,
        "from": _origin(session),
        "file": model.source if isinstance(model.source, str) else "none, created in memory",
        "size": f"{_size(model):,} bytes",
        "sha256": model.sha256,
        "parameters": f"{count_parameters(graph):,}",
        "nodes": str(len(graph.nodes)),
        "opset": ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in graph.opsets.items()),
        "classes": str(classes),
        "precision": _precisions(),
        "expects": summary(Network(model.source, model.name).description),
    }
    for kind, arguments in (("input", session.get_inputs()), ("output", outputs)):
        for i, argument in enumerate(arguments):
            shape = ", ".join("?" if d is None else str(d) for d in argument.shape)
            facts[f"{kind} {i}"] = f"{argument.name} {argument.type} ({shape})"
    for name, fact in facts.items():
        print(f"{name:<12}{printable(fact)}")


def _precisions() -> str:
    """Return the types in which models run on this processor."""
    from tinyonnx.codegen.processor import has_bfloat16

    return "float32, or bfloat16 (--precision)" if has_bfloat16() else "float32; bfloat16 needs AVX512-BF16"


def _session(model: ResolvedModel) -> Any:
    import tinyonnx

    try:
        return tinyonnx.InferenceSession(model.source)
    except (tinyonnx.Error, OSError) as error:
        raise ModelError(printable(str(error).replace("<bytes>", model.name))) from None


def _origin(session: Any) -> str:
    """Return the origin of the model according to its metadata."""
    metadata = session.get_modelmeta()
    custom: dict[str, str] = metadata.custom_metadata_map
    if "source" in custom:
        sha256 = custom.get("source_sha256")
        return custom["source"] + (f", sha256 {sha256}" if sha256 else "")
    return f"an export by {metadata.producer_name}" if metadata.producer_name else "unknown"


def _size(model: ResolvedModel) -> int:
    return os.path.getsize(model.source) if isinstance(model.source, str) else len(model.source)
