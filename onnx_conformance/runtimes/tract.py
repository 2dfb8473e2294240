"""tract, through its Python package."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from onnx_conformance.runtimes.base import Prepare, Run, with_constants


def start() -> Prepare:
    """Return the way to prepare a model."""
    import tract

    def prepare(model: bytes) -> Run:
        def run(feeds: dict[str, Any]) -> list[Any]:
            try:
                return infer(model, feeds)
            except tract.TractError:
                # tract needs shapes and axes as constants
                first = next(iter(feeds), "")
                fixed = {name: feed for name, feed in feeds.items() if name != first}
                if not fixed:
                    raise
                return infer(with_constants(model, fixed), {first: feeds[first]})

        return run

    def infer(model: bytes, feeds: dict[str, Any]) -> list[Any]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.onnx")
            path.write_bytes(model)
            loaded = tract.onnx().load(path)
        names = [loaded.input_name(i) for i in range(loaded.input_count())]
        inputs = [tract.Tensor.from_numpy(feeds[name]) for name in names]
        for i, (name, tensor) in enumerate(zip(names, inputs, strict=True)):
            kind = tensor.datum_type().name.lower()
            loaded.set_input_fact(i, ",".join([*map(str, feeds[name].shape), kind]))
        for i in range(loaded.output_count()):
            loaded.set_output_fact(i, None)
        return [output.to_numpy() for output in loaded.into_model().into_runnable().run(inputs)]

    return prepare
