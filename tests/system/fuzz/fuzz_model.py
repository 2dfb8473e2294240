"""Fuzzing of loader, passes, plan and run; see `check` for what counts as a finding.

python -m tests.system.fuzz.fuzz_model seeds CORPUS                        models to start from
python -m tests.system.fuzz.fuzz_model fuzz CORPUS FINDINGS [SECONDS]      guided by coverage where atheris is installed
python -m tests.system.fuzz.fuzz_model replay FILE…                        the finding of each file, if it has one
"""

from __future__ import annotations

import faulthandler
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import atheris
except ImportError:
    atheris = None

if atheris and sys.argv[1:2] == ["fuzz"]:
    # not what is compiled from its bytecode
    package = Path(__file__).parents[3] / "tinyonnx"
    sources = [(path, path.read_text(encoding="utf-8")) for path in package.rglob("*.py")]
    compiled = [path for path, text in sources if "@jit" in text or "@kernel" in text]
    kernels = [".".join(path.relative_to(package.parent).with_suffix("").parts) for path in compiled]
    with atheris.instrument_imports(include=["tinyonnx"], exclude=["tinyonnx.kernels", *kernels]):
        import tinyonnx
        import tinyonnx.onnxfile.load
else:
    import tinyonnx
    import tinyonnx.onnxfile.load

import numpy as np
from onnx import ModelProto, numpy_helper

import tinyonnx.kernels
from tests.system.fuzz.mutate import Random, change_some_bytes, mutated
from tinyonnx.errors import OpError
from tinyonnx.registry import lookup

LIMITS = tinyonnx.Limits(
    max_tensor_bytes=4 << 20, max_nodes=2000, max_loop_iterations=200, max_seconds=2.0, max_depth=8
)
TOO_LONG = 5.0
"""Seconds that a model may take at most, and then some: `HANGS` ends the process."""

HANGS = 600
TOO_MUCH = 300 << 10
"""KiB by which one model may raise the process's memory at most."""


_HUGE = 1e15
"""Magnitude from which the order of a sum changes its result too much to compare."""


class Finding(Exception):
    """A model that is treated wrongly; the message says where, in the words that name its file."""


def check(data: bytes) -> None:
    """Load and run a model, optimised and not. Raises Finding for

    - any exception that isn't a tinyonnx.Error, or one that isn't clear (several lines, too long, a bare
      Python exception as its cause),
    - runs that need too long or too much memory,
    - an optimised run that gives other results than the plain one.
    """
    started, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        _check(data)
    except Finding:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise Finding(f"traceback-{type(error).__name__}-{Path(frame.filename).stem}-{frame.lineno}") from error
    if (taken := time.process_time() - started) > TOO_LONG:
        raise Finding(f"slow-{taken:.0f}s")
    if (more := resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) > TOO_MUCH:
        raise Finding(f"memory-{more >> 10}MiB")


def _check(data: bytes) -> None:
    model = ModelProto()
    try:
        session = _session(data, 99)
    except tinyonnx.Error as error:
        _check_message(error)
        return
    model.ParseFromString(data)
    try:
        feeds = {i.name: value for i in session.get_inputs() if (value := _feed(i, data)) is not None}
    except _TooBig:
        return
    fast, plain = _outcome(session, feeds), _outcome(_session(data, 0), feeds)
    nodes = [n for n in session.graph.walk()]
    if any(not lookup(n.domain, n.op_type, n.opset).pure for n in nodes):
        return
    if isinstance(fast, tinyonnx.Error) and isinstance(plain, tinyonnx.Error):
        return
    for one in (fast, plain):
        if isinstance(one, tinyonnx.ResourceError):
            return
        if isinstance(one, tinyonnx.Error):
            raise Finding(f"only-{'fast' if one is fast else 'plain'}-fails-{_ops(nodes)}") from one
    assert isinstance(fast, list)
    assert isinstance(plain, list)
    doubles_throughout = not any(n.op_type.startswith("Cast") for n in nodes)
    for i, (a, b) in enumerate(zip(fast, plain, strict=True)):
        if (difference := _difference(a, b, 1e-9 if doubles_throughout else 1e-4)) and not _overflows(data, feeds):
            raise Finding(f"differs-{_ops(nodes)}") from AssertionError(f"output {i}: {difference}")


def _session(data: bytes, level: int) -> tinyonnx.InferenceSession:
    options = tinyonnx.SessionOptions()
    options.limits = LIMITS
    options.intra_op_num_threads = 1
    options.graph_optimization_level = tinyonnx.GraphOptimizationLevel(level)
    return tinyonnx.InferenceSession(data, options)


def _outcome(session: tinyonnx.InferenceSession, feeds: dict[str, Any]) -> list[Any] | tinyonnx.Error:
    try:
        return session.run(None, feeds)
    except tinyonnx.Error as error:
        _check_message(error)
        return error


def _check_message(error: tinyonnx.Error) -> None:
    text = str(error)
    if not text.isprintable() or len(text) > 20_000:
        raise Finding(f"message-{type(error).__name__}") from error
    if "out of memory" in text:
        raise Finding("out-of-memory") from error
    cause = error.__cause__
    if isinstance(error, tinyonnx.NodeError) and cause and not isinstance(cause, (OpError, tinyonnx.Error)):
        frame = next(f for f in reversed(traceback.extract_tb(cause.__traceback__)) if "tinyonnx" in f.filename)
        raise Finding(f"unclear-{type(cause).__name__}-{Path(frame.filename).stem}-{frame.name}") from error


def _ops(nodes: list[Any]) -> str:
    return "-".join([n.op_type for n in nodes[:4]])


class _TooBig(Exception):
    pass


def _feed(arg: tinyonnx.NodeArg, data: bytes) -> Any:
    """Return some value of the input's declared type, the same for the same model."""
    random_numbers = np.random.default_rng(len(data))
    if arg.type.startswith("seq(tensor("):
        element = tinyonnx.NodeArg(arg.name, arg.type[4:-1], [2, 3])
        return [_feed(element, data) for _ in range(2)]
    if not arg.type.startswith("tensor("):
        return None
    shape = [d if isinstance(d, int) else 2 for d in arg.shape]
    if np.prod([max(d, 1) for d in shape], dtype=float) > 20_000 or len(shape) > 32:
        raise _TooBig
    dtype = tinyonnx.dtypes.from_onnx_type(arg.type)
    if dtype.kind == "O":
        return np.full(shape, "tiny", object)
    if dtype.kind in "iu":
        return random_numbers.integers(0, 4, shape).astype(dtype)
    array = np.asarray(random_numbers.standard_normal(shape)).astype(dtype)
    if len(data) % 4 == 0 and array.size and dtype.kind == "f":
        array.reshape(-1)[random_numbers.integers(0, array.size, 2)] = np.nan, np.inf
    return array


def _difference(a: Any, b: Any, of_doubles: float) -> str:
    if isinstance(b, list) and isinstance(a, list):
        parts = [_difference(x, y, of_doubles) for x, y in zip(a, b)]
        return "lengths" if len(a) != len(b) else next(filter(None, parts), "")
    if not isinstance(b, np.ndarray) or not isinstance(a, np.ndarray):
        return "" if type(a) is type(b) else f"{type(a)}, not {type(b)}"
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return f"{a.dtype}{a.shape}, not {b.dtype}{b.shape}"
    if b.dtype.kind not in "fVc" or b.dtype.names:
        return "" if np.array_equal(a, b) else f"{a}, not {b}"
    kind = b.dtype.name
    x, y = (v.astype(np.complex128 if b.dtype.kind == "c" else np.float64) for v in (a, b))
    tolerance = of_doubles if kind in ("float64", "complex128") else 1e-4 if kind in ("float32", "complex64") else 5e-2
    scale = max(1.0, np.abs(y[np.isfinite(y)]).max(initial=0))
    with np.errstate(all="ignore"):
        same = (x == y) | (np.isnan(x) & np.isnan(y)) | (np.abs(x - y) <= tolerance * scale)
    return "" if same.all() else f"{a}, not {b}"


def _overflows(data: bytes, feeds: dict[str, Any]) -> bool:
    """Return whether the plain run has numbers so large that another order of computing is another result.

    Infinite weights are such numbers, too: with a zero of the padding they give NaN, or nothing where it is skipped.
    """
    graph = _session(data, 0).graph
    constants = [v.const for v in graph.initializers] + [a for n in graph.walk() for a in n.attributes.values()]
    for constant in map(np.asarray, constants):
        if constant.dtype.kind == "f" and not (np.abs(constant) < _HUGE).all():
            return True
    with np.errstate(all="ignore"):
        for _, outputs in _session(data, 0).trace(feeds):
            for array in outputs:
                if isinstance(array, np.ndarray) and array.dtype.kind in "fVc" and array.size:
                    values = np.abs(array.astype(np.complex128))
                    if (np.isfinite(values) & (values > (1e3 if array.itemsize < 4 else _HUGE))).any():
                        return True
    return False


# -- seeds ------------------------------------------------------------------------------


def seeds() -> Iterator[tuple[str, ModelProto]]:
    """Yield the backend suite's node models, all small inputs but the first as initializers, and random networks."""
    from onnx.backend.test.loader import load_model_tests

    from onnx_conformance.generate.networks import ImageNetwork

    for case in load_model_tests(kind="node"):
        model = case.model
        for fed, value in list(zip(model.graph.input, case.data_sets[0][0]))[1:]:
            if isinstance(value, list) or hasattr(value, "SerializeToString"):
                continue
            array = np.asarray(value)
            if array.nbytes <= 2048 and fed.type.HasField("tensor_type"):
                model.graph.initializer.append(numpy_helper.from_array(array, fed.name))
                model.graph.input.remove(fed)
        if model.ByteSize() < 16 << 10:
            yield case.name, model
    for seed in range(40):
        yield f"network_{seed}", ImageNetwork(seed, np.float32, [13, 17, 20][seed % 3]).build()


def write_seeds(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in seeds():
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())


# -- running ----------------------------------------------------------------------------


class Fuzzer:
    """Checks one model after the other and writes each new kind of finding to a folder."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder = folder
        self.until = time.monotonic() + seconds
        self.count = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.last = folder / "last.onnx"
        """The command that was running, in case the process dies of it."""

    def __call__(self, data: bytes) -> None:
        self.last.write_bytes(data)
        self.count += 1
        faulthandler.dump_traceback_later(HANGS, exit=True)
        try:
            check(data)
        except Finding as finding:
            self._write(finding, data)
        faulthandler.cancel_dump_traceback_later()
        if self.count % 200 == 0:
            (self.folder / "count").write_text(str(self.count))
        if time.monotonic() > self.until:
            print(f"{self.count} models")
            sys.stdout.flush()
            self.last.unlink()
            __import__("os")._exit(0)

    def _write(self, finding: Finding, data: bytes) -> None:
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in str(finding))[:120]
        path = self.folder / f"{name}.onnx"
        if not path.exists() or len(data) < path.stat().st_size:
            path.write_bytes(data)
            path.with_suffix(".txt").write_text("".join(traceback.format_exception(finding)))


def fuzz(corpus: Path, findings: Path, seconds: float) -> None:
    """Fuzz for some seconds; without atheris by random changes of the corpus alone."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    fuzzer = Fuzzer(findings, seconds)
    if atheris:

        def mutator(data: bytes, max_size: int, seed: int) -> bytes:
            result = mutated(data, seed, lambda bytes_: atheris.Mutate(bytes_, min(len(bytes_) + 8, max_size)))
            return result if len(result) <= max_size else data

        arguments = [
            "fuzz_model",
            str(corpus),
            "-max_len=20000",
            "-len_control=0",
            "-rss_limit_mb=0",
            f"-timeout={2 * HANGS}",
        ]
        arguments += [f"-seed={time.time_ns() % 2**31}", "-verbosity=1"]
        atheris.Setup(arguments, fuzzer, custom_mutator=mutator)
        atheris.Fuzz()
    r = Random()
    pool = [path.read_bytes() for path in corpus.iterdir()]
    while True:
        fuzzer(mutated(r.choice(pool), r.getrandbits(32), lambda data: change_some_bytes(r, data)))


def replay(paths: list[Path]) -> None:
    warnings.simplefilter("ignore")
    for path in paths:
        try:
            check(path.read_bytes())
            print(f"{path}: fine")
        except Finding:
            print(f"{path}: {traceback.format_exc()}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["seeds", corpus]:
            write_seeds(Path(corpus))
        case ["fuzz", corpus, findings, *seconds]:
            fuzz(Path(corpus), Path(findings), float(seconds[0]) if seconds else 600)
        case ["replay", *paths]:
            replay([Path(p) for p in paths])
        case _:
            sys.exit(__doc__)
