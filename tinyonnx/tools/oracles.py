"""Results of other runtimes for every tensor of a model: onnx's reference, and onnxruntime if it is installed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinyonnx.errors import InputError
from tinyonnx.tools.compare import Values


def reference_values(source: str | bytes, feeds: Mapping[str, Any]) -> Values:
    """Return all results of onnx's reference implementation by name. Raises InputError if it can't run the model."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            model = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(source)
            values = ReferenceEvaluator(model).run(None, dict(feeds), intermediate=True)
    except Exception as error:  # another runtime may raise anything
        raise InputError(f"{_name(source)}: onnx.reference can't run it: {_first_line(error)}") from error
    assert isinstance(values, dict)
    return {name: value for name, value in values.items() if name and value is not None}


def onnxruntime_values(source: str | bytes, feeds: Mapping[str, Any], names: Sequence[str]) -> Values:
    """Return the named results of onnxruntime, unoptimised, on one thread.

    Raises InputError if onnxruntime isn't installed or can't run the model.
    """
    try:
        import onnxruntime
    except ImportError:
        raise InputError("--against onnxruntime needs onnxruntime: pip install onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        model, folder = _with_outputs(source, names)
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        oracle = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        present = [output.name for output in oracle.get_outputs()]
        return dict(zip(present, oracle.run(present, dict(feeds)), strict=True))
    except Exception as error:
        raise InputError(f"{_name(source)}: onnxruntime can't run it: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """Return the type and the first line of the message, which may go on with a list of all operators."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}".rstrip(": ")


def _with_outputs(source: str | bytes, names: Sequence[str]) -> tuple[bytes, str]:
    """Return the model with these results as additional outputs, and the folder of its external data."""
    import onnx

    if isinstance(source, bytes):
        model, folder = onnx.load_from_string(source), ""
    else:
        model, folder = onnx.load(source, load_external_data=False), os.path.dirname(os.path.abspath(source))
    produced = {name for node in model.graph.node for name in node.output}
    outputs = {output.name for output in model.graph.output}
    for name in dict.fromkeys(names):
        if name in produced and name not in outputs:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    return model.SerializeToString(), folder


def _name(source: str | bytes) -> str:
    return "<bytes>" if isinstance(source, bytes) else source
