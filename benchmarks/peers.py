"""Contenders: functions that load a library or program and return a function that runs once and returns its results.

Each is called in a process of its own, in which its library is imported.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.turns import AbsentError, Array, Run


def _feeds(path: str) -> dict[str, Array]:
    with np.load(path) as file:
        return dict(file)


# -- one model ----------------------------------------------------------------------------


def tinyonnx(model: str, feeds: str, threads: int) -> Run:
    """Load this project."""
    session, inputs = _tinyonnx(model, threads), _feeds(feeds)
    return lambda: session.run(None, inputs)


def tinyonnx_bfloat16(model: str, feeds: str, threads: int) -> Run:
    """Load this project with the operands of large products in bfloat16."""
    session, inputs = _tinyonnx(model, threads, "bfloat16"), _feeds(feeds)
    return lambda: session.run(None, inputs)


def _tinyonnx(model: str, threads: int, precision: str = "float32") -> Any:
    import tinyonnx

    options = tinyonnx.SessionOptions()
    options.intra_op_num_threads, options.precision = threads, precision
    session = tinyonnx.InferenceSession(model, options)
    if session.precision != precision:
        raise AbsentError("the processor lacks AVX512-BF16")
    return session


def onnxruntime(model: str, feeds: str, threads: int) -> Run:
    """Load ONNX Runtime's CPU provider."""
    session, inputs = _onnxruntime(model, threads), _feeds(feeds)
    return lambda: list(session.run(None, inputs))


def onnxruntime_folded(model: str, feeds: str, threads: int) -> Run:
    """Load ONNX Runtime on the model with constants and normalisations folded."""
    session, inputs = _onnxruntime(model, threads, folded=True), _feeds(feeds)
    return lambda: list(session.run(None, inputs))


def _onnxruntime(model: str, threads: int, folded: bool = False) -> Any:
    import tempfile

    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        if folded:
            model = _folded(model, f"{folder}/folded.onnx")
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _folded(model: str, path: str) -> str:
    """Write a model with constants and normalisations folded; return the path."""
    import tinyonnx

    options = tinyonnx.SessionOptions()
    options.optimized_model_filepath = path
    tinyonnx.InferenceSession(model, options)
    return path


def library(model: str, feeds: str, threads: int) -> Run:
    """Load the shared library that `tinyonnx compile` makes, which uses one thread."""
    import ctypes
    import tempfile

    import tinyonnx
    from tinyonnx.native.products import compile_model

    inputs = _feeds(feeds)
    session = tinyonnx.InferenceSession(model)
    ordered = [np.ascontiguousarray(inputs[arg.name]) for arg in session.get_inputs()]
    outputs = [np.empty_like(array) for array in session.run(None, inputs)]
    with tempfile.TemporaryDirectory() as folder:
        compile_model(model, inputs, f"{folder}/model.so")
        function = ctypes.CDLL(f"{folder}/model.so").model_run
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*ordered, *outputs)]

    def run() -> list[Array]:
        if function(*pointers) != 0:
            raise AbsentError("its function failed")
        return outputs

    run.__dict__["inputs"] = ordered  # their memory must outlive this function
    return run


_FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}
"""Setting of OpenVINO, which otherwise chooses."""


def openvino(model: str, feeds: str, threads: int) -> Run:
    """Load OpenVINO's CPU plugin with its defaults: in bfloat16 if the processor has it."""
    return _openvino(model, feeds, threads, {})


def openvino_float32(model: str, feeds: str, threads: int) -> Run:
    """Load OpenVINO's CPU plugin, forced to float32."""
    return _openvino(model, feeds, threads, _FLOAT32)


def _openvino(model: str, feeds: str, threads: int, precision: dict[str, str]) -> Run:
    """Load OpenVINO's CPU plugin, compiled for the shapes of the feeds."""
    import openvino

    inputs = _feeds(feeds)
    core = openvino.Core()
    network = core.read_model(model)
    names = [next(name for name in port.get_names() if name in inputs) for port in network.inputs]
    network.reshape({port: list(inputs[name].shape) for port, name in zip(network.inputs, names, strict=True)})
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        **precision,
    }
    compiled = core.compile_model(network, "CPU", settings)
    values = [inputs[name] for name in names]

    def run() -> list[Array]:
        results = compiled(values, share_inputs=True)
        return [results[port] for port in compiled.outputs]

    return run


_TRACT_TYPES = {
    "float32": "f32",
    "float64": "f64",
    "float16": "f16",
    "int64": "i64",
    "int32": "i32",
    "bool": "bool",
}


def tract(model: str, feeds: str, threads: int) -> Run:
    """Load tract, which uses one thread."""
    import tract

    if threads > 1:
        raise AbsentError("its Python package runs on one thread only")
    inputs = _feeds(feeds)
    network = tract.onnx().load(model)
    names = [network.input_name(i) for i in range(network.input_count())]
    for i, name in enumerate(names):
        kind = _TRACT_TYPES[inputs[name].dtype.name]
        network.set_input_fact(i, ",".join([*map(str, inputs[name].shape), kind]))
    network.analyse()
    runnable = network.into_model().into_runnable()
    values = [inputs[name] for name in names]
    return lambda: [tensor.to_numpy() for tensor in runnable.run(values)]


# -- many lengths -------------------------------------------------------------------------


def _feeds_of_lengths(path: str) -> list[dict[str, Array]]:
    """Load feeds that were saved as "number/name"."""
    found: dict[str, dict[str, Array]] = {}
    for key, array in _feeds(path).items():
        number, _, name = key.partition("/")
        found.setdefault(number, {})[name] = array
    return list(found.values())


def _run_lengths(session: Any, feeds: str) -> Run:
    inputs = _feeds_of_lengths(feeds)
    return lambda: [array for each in inputs for array in session.run(None, each)]


def tinyonnx_lengths(model: str, feeds: str, threads: int) -> Run:
    """Load this project; one run covers each length."""
    return _run_lengths(_tinyonnx(model, threads), feeds)


def tinyonnx_bfloat16_lengths(model: str, feeds: str, threads: int) -> Run:
    """Load the same in bfloat16."""
    return _run_lengths(_tinyonnx(model, threads, "bfloat16"), feeds)


def onnxruntime_lengths(model: str, feeds: str, threads: int) -> Run:
    """Load ONNX Runtime with dynamic shapes."""
    return _run_lengths(_onnxruntime(model, threads), feeds)


def onnxruntime_folded_lengths(model: str, feeds: str, threads: int) -> Run:
    """Load the same on the model with constants and normalisations folded."""
    return _run_lengths(_onnxruntime(model, threads, folded=True), feeds)


def openvino_lengths(model: str, feeds: str, threads: int) -> Run:
    """Load OpenVINO's CPU plugin with dynamic shapes and its defaults."""
    return _openvino_lengths(model, feeds, threads, {})


def openvino_float32_lengths(model: str, feeds: str, threads: int) -> Run:
    """Load the same, forced to float32."""
    return _openvino_lengths(model, feeds, threads, _FLOAT32)


def _openvino_lengths(model: str, feeds: str, threads: int, precision: dict[str, str]) -> Run:
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", **precision}
    compiled = core.compile_model(core.read_model(model), "CPU", settings)
    inputs = _feeds_of_lengths(feeds)

    def run() -> list[Array]:
        results = (compiled(each, share_inputs=True) for each in inputs)
        return [np.array(result[port]) for result in results for port in compiled.outputs]

    return run


_PEERS = ("tinyonnx", "tinyonnx_bfloat16", "onnxruntime", "onnxruntime_folded", "openvino", "openvino_float32")

LENGTH_PEERS = tuple(f"{peer}_lengths" for peer in _PEERS)

MODEL_PEERS = (*_PEERS, "tract")

IN_BFLOAT16 = ("tinyonnx_bfloat16", "openvino")
"""Contenders that multiply in bfloat16 if the processor has it, at twice the rate of float32."""


# -- features and whole clips -------------------------------------------------------------


def audiotag_mel(samples: str) -> Run:
    """Load this project's log-mel features."""
    from audiotag.features.mel import log_mel

    x = np.load(samples)
    return lambda: [log_mel(x)]


def numpy_mel(samples: str) -> Run:
    """Load the same features in plain numpy."""
    from benchmarks.baseline import LogMel

    x, log_mel = np.load(samples), LogMel()
    return lambda: [log_mel(x)]


def audiotag_clip(model: str, clip: str, threads: int, precision: str) -> Run:
    """Load this project: the ten best scores of a sound file."""
    from audiotag import Tagger

    tagger = Tagger(model, threads, precision=precision)
    if tagger.network.precision != precision:
        raise AbsentError("the processor lacks AVX512-BF16")
    return lambda: [np.array([tag.score for tag in tagger.tag(clip, top=10).tags])]


def script_clip(model: str, clip: str, threads: int) -> Run:
    """Load soundfile, plain numpy and ONNX Runtime: the ten best scores of a sound file."""
    from benchmarks.baseline import Script

    script = Script(model, threads)
    return lambda: [script.best(clip)[1]]
