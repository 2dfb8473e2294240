"""Benchmark of one model against other runtimes: feeds, operation counts and cases."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

import tinyonnx
from audiotag.models.mobilenet import N_MELS, WIDTHS, random_graph
from benchmarks.peers import LENGTH_PEERS, MODEL_PEERS
from benchmarks.turns import Array, Case, Contender, take_turns
from tinyonnx.commands._shared import plural
from tinyonnx.dtypes import from_onnx_type

FRAMES_PER_SECOND = 100


class UsageError(Exception):
    """The command line asks for something impossible."""


def model_file(name: str, folder: str) -> str:
    """Return the path of an ONNX file; a named network is written to `folder` with seeded random weights."""
    if name in WIDTHS:
        path = os.path.join(folder, f"{name}.onnx")
        if not os.path.exists(path):
            tinyonnx.save_model(random_graph(name, seed=0), path)
        return path
    if not os.path.isfile(name):
        raise UsageError(f"{name}: no such file, and no network of that name: {', '.join(WIDTHS)}")
    return name


def unoptimised(path: str) -> tinyonnx.InferenceSession:
    """Make a session without graph optimisation, so that its plans have the nodes of the file."""
    options = tinyonnx.SessionOptions()
    options.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    return tinyonnx.InferenceSession(path, options)


def is_audio(inputs: Iterable[tinyonnx.NodeArg]) -> bool:
    """Return whether the inputs are one log-mel spectrogram (batch, 1, 128, time)."""
    shapes = [only.shape for only in inputs]
    return len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][1:3] == [1, N_MELS]


def audio_shape(seconds: float, batch: int) -> tuple[int, ...]:
    """Return the shape of the features of a batch of clips."""
    return batch, 1, N_MELS, round(seconds * FRAMES_PER_SECOND)


def make_feeds(inputs: Iterable[tinyonnx.NodeArg], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Make seeded random feeds of the declared shapes, or of those in `shapes` by input name.

    Floats are standard normal, integers and booleans 0 or 1. Raises UsageError for a shape
    that is neither declared nor given, or doesn't fit.
    """
    inputs = list(inputs)
    unknown = [name for name in shapes if name not in {only.name for only in inputs}]
    if unknown:
        raise UsageError(f"no input is called {unknown[0]}; there are {', '.join(only.name for only in inputs)}")
    rng = np.random.default_rng(0)
    feeds: dict[str, Array] = {}
    for only in inputs:
        shape = shapes.get(only.name, tuple(only.shape))
        fixed = [dim for dim in shape if isinstance(dim, int)]
        if len(fixed) < len(shape):
            raise UsageError(f"input {only.name} has shape {only.shape}: give --shape {only.name}:1,2,3")
        if not only.type.startswith("tensor(") or only.type == "tensor(string)":
            raise UsageError(f"input {only.name} is a {only.type}: no feed can be made up for that")
        dtype = from_onnx_type(only.type)
        random = rng.standard_normal(fixed) if dtype.kind == "f" else rng.integers(0, 2, fixed)
        feeds[only.name] = random.astype(dtype)
    return feeds


def count_flops(session: tinyonnx.InferenceSession, feeds: Mapping[str, Array]) -> int | None:
    """Count two operations per multiplication in convolutions and matrix products; None if a shape is unknown."""
    total = 0
    for node in session.plan_for(None, feeds).graph.walk():
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            continue
        x, w = node.inputs[:2]
        assert x is not None
        assert w is not None
        shapes = x.static_shape, w.static_shape, node.output.static_shape
        if shapes[0] is None or shapes[1] is None or shapes[2] is None:
            return None
        source, weight, result = shapes
        if node.op_type == "Conv":
            total += math.prod(result) * math.prod(weight[1:])
        elif node.op_type == "ConvTranspose":
            total += math.prod(source) * math.prod(weight[1:])
        else:
            depth = source[-2] if node.attributes.get("transA") else source[-1]
            total += math.prod(result) * depth
    return 2 * total


def measure(
    name: str, path: str, session: tinyonnx.InferenceSession, feeds: dict[str, Array], folder: str, *,
    title: str, threads: int, repeats: int, parameters: dict[str, Any],
) -> Case:  # fmt: skip
    """Measure all runtimes on one model and one set of feeds."""
    feeds_path = os.path.join(folder, "feeds.npz")
    np.savez(feeds_path, **feeds)  # type: ignore[arg-type]  # no input is named allow_pickle
    arguments = {"model": path, "feeds": feeds_path, "threads": threads}
    contenders = [Contender(peer, f"benchmarks.peers:{peer}", arguments) for peer in MODEL_PEERS]
    # compile kernels that are not cached, so that they don't count for the first case
    take_turns(contenders[:1], threads=threads, repeats=0, reference="")
    measurements = take_turns(contenders, threads=threads, repeats=repeats, reference="onnxruntime")
    parameters = {
        "model": name,
        **parameters,
        "threads": threads,
        "shapes": {k: v.shape for k, v in feeds.items()},
    }
    return Case("model", title, measurements, parameters, count_flops(session, feeds))


def cases(
    name: str, folder: str, *, seconds: list[float] | None, batches: list[int] | None, threads: list[int],
    repeats: int, shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Iterable[Case]:  # fmt: skip
    """Yield a case for each combination; `seconds` and `batches` apply to audio models, `shapes` to others."""
    path = model_file(name, folder)
    label = os.path.basename(name).removesuffix(".onnx")
    session = unoptimised(path)
    inputs = session.get_inputs()
    if shapes or not is_audio(inputs):
        if seconds or batches:
            raise UsageError("--seconds and --batch are for audio models: give --shape alone")
        feeds = make_feeds(inputs, shapes or {})
        for count in threads:
            described = ", ".join(f"{key} {list(value.shape)}" for key, value in feeds.items())
            title = f"{label}, {described}, {plural(count, 'thread')}"
            yield measure(
                label,
                path,
                session,
                feeds,
                folder,
                title=title,
                threads=count,
                repeats=repeats,
                parameters={},
            )
        return
    for length in seconds or [10.0]:
        for batch in batches or [1]:
            feeds = make_feeds(inputs, {inputs[0].name: audio_shape(length, batch)})
            for count in threads:
                title = f"{label}, {length:g} s, batch {batch}, {plural(count, 'thread')}"
                yield measure(
                    label, path, session, feeds, folder, title=title, threads=count, repeats=repeats,
                    parameters={"seconds": length, "batch": batch},
                )  # fmt: skip


def lengths_case(name: str, folder: str, *, count: int, threads: int, repeats: int) -> Case:
    """Return a case whose runs take clips of `count` different lengths between 1 and 10 s, in random order."""
    path = model_file(name, folder)
    inputs = unoptimised(path).get_inputs()
    if not is_audio(inputs):
        raise UsageError(f"{name}: not an audio model")
    rng = np.random.default_rng(0)
    seconds = rng.permutation(np.linspace(1, 10, count)).tolist()
    shapes = [audio_shape(length, 1) for length in seconds]
    feeds_path = os.path.join(folder, "lengths.npz")
    feeds = {f"{i}/{inputs[0].name}": rng.standard_normal(s).astype(np.float32) for i, s in enumerate(shapes)}
    np.savez(feeds_path, **feeds)  # type: ignore[arg-type]  # no input is named allow_pickle
    arguments = {"model": path, "feeds": feeds_path, "threads": threads}
    contenders = [Contender(p.removesuffix("_lengths"), f"benchmarks.peers:{p}", arguments) for p in LENGTH_PEERS]
    take_turns(contenders[:1], threads=threads, repeats=0, reference="")
    measurements = take_turns(contenders, threads=threads, repeats=repeats, reference="onnxruntime", budget=60)
    label = os.path.basename(name).removesuffix(".onnx")
    title = f"{label}, {count} clips of {count} lengths (1 to 10 s), {plural(threads, 'thread')}"
    return Case("lengths", title, measurements, {"model": label, "lengths": count, "threads": threads})
