from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto

import tinyonnx
from audiotag.models.mobilenet import random_graph
from onnx_conformance.generate.sized import ImageGraphs, SequenceGraphs
from tests.tinyonnx.native.sized import build, message

pytest.importorskip("ziglang")
if sys.platform != "linux" or platform.machine() != "x86_64":
    pytest.skip("native code is for x86-64 Linux", allow_module_level=True)

from tinyonnx.codegen.targets import TARGETS, TargetMachine
from tinyonnx.native.binary import numbers, runs_of
from tinyonnx.native.model import CompileError
from tinyonnx.native.products import compile_model

LEVELS = {"v4": "avx512vl", "v3": "avx2", "v2": "sse4_2"}


def run(file: Path, data: bytes, level: str = "v2") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([file], input=data, capture_output=True, env={"TINYONNX_CPU": level}, check=False)


@pytest.fixture(scope="module")
def network() -> bytes:
    return tinyonnx.to_bytes(random_graph("mn01"))


@pytest.fixture(scope="module")
def executable(network: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("native") / "mn01"
    compile_model(network, {"melspec": np.zeros((1, 1, 128, 301), np.float32)}, file)
    return file


def skip_without(level: str) -> None:
    if LEVELS[level] not in Path("/proc/cpuinfo").read_text():
        pytest.skip(f"this processor lacks x86-64-{level}")


def features() -> Any:
    return np.random.default_rng(0).standard_normal((1, 1, 128, 301)).astype(np.float32)


@pytest.mark.parametrize("level", LEVELS)
def test_gives_what_the_session_gives_at_every_level(network: bytes, executable: Path, level: str) -> None:
    skip_without(level)
    x = features()
    result = run(executable, x.tobytes(), level)
    assert (result.returncode, result.stderr) == (0, b"")
    expected = np.concatenate([y.ravel() for y in tinyonnx.InferenceSession(network).run(None, {"melspec": x})])
    np.testing.assert_allclose(np.frombuffer(result.stdout, np.float32), expected, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def sized(network: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("native") / "sized"
    build(TARGETS["x86_64-linux"], file, network, "logits", 527, (1, 1, 128, 0), 3, (1, 2000))
    return file


@pytest.mark.parametrize("level", LEVELS)
def test_any_number_of_frames(network: bytes, sized: Path, level: str) -> None:
    skip_without(level)
    rng = np.random.default_rng(0)
    sizes = [*range(1, 40), *rng.integers(40, 2000, 20).tolist(), 2000]
    clips = [rng.standard_normal((1, 1, 128, size)).astype(np.float32) for size in sizes]
    result = run(sized, b"".join(message(clip, 3) for clip in clips), level)
    assert (result.returncode, result.stderr) == (0, b"")
    session = tinyonnx.InferenceSession(network)
    expected = [session.run(["logits"], {"melspec": clip})[0][0] for clip in clips]
    np.testing.assert_allclose(np.frombuffer(result.stdout, np.float32).reshape(-1, 527), expected, atol=1e-4)


def test_frames_beyond_all_ranges(sized: Path) -> None:
    assert run(sized, np.array([2001, 512]).tobytes() + bytes(512)).returncode == 3


def this_processor() -> tuple[TargetMachine, str]:
    """Return the target with the levels of instructions up to that of this processor, and its name."""
    flags = Path("/proc/cpuinfo").read_text()
    place, level = next((i, level) for i, (level, flag) in enumerate(LEVELS.items()) if flag in flags)
    here = TARGETS["x86_64-linux"]
    return here._replace(levels=here.levels[: place + 1]), level  # the best first


def networks_without_control_flow(graphs: type[ImageGraphs | SequenceGraphs]) -> Iterator[ModelProto]:
    for seed in range(1000):
        network = graphs(seed).build()
        if not any(node.op_type in ("If", "Loop", "Scan") for node in network.graph.node):
            yield network


@pytest.mark.parametrize(
    ("graphs", "output", "shape", "axis", "sizes"),
    [(ImageGraphs, 0, (1, 4, 17, 0), 3, (16, 200)), (SequenceGraphs, -1, (1, 0, 24), 1, (2, 120))],
)
def test_random_networks_give_for_every_size_what_the_session_gives(
    graphs: type[ImageGraphs | SequenceGraphs], output: int, shape: tuple[int, ...], axis: int,
    sizes: tuple[int, int], tmp_path: Path,
) -> None:  # fmt: skip
    here, level = this_processor()
    random = np.random.default_rng(0)
    built = 0
    for network in islice(networks_without_control_flow(graphs), 30):
        content, name, file = network.SerializeToString(), network.graph.output[output].name, tmp_path / f"{built}"
        session = tinyonnx.InferenceSession(content)
        several = [*sizes, *random.integers(*sizes, 20).tolist()]
        xs = [random.standard_normal([n or size for n in shape]).astype(np.float32) for size in several]
        expected = [session.run([name], {"x": x})[0].ravel() for x in xs]
        try:
            build(here, file, content, name, expected[0].size, shape, axis, sizes)
        except CompileError as error:
            if "follows from the sizes" not in str(error):
                raise
            continue
        result = run(file, b"".join(message(x, axis) for x in xs), level)
        assert (result.returncode, result.stderr) == (0, b"")
        found = np.frombuffer(result.stdout, np.float32).reshape(len(xs), -1)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
        if (built := built + 1) == 3:
            return
    pytest.fail(f"of 30 networks {built} were built")


def test_a_plan_for_many_sizes_is_not_taken_for_size_1(tmp_path: Path) -> None:
    network = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
    g (float[T, 3] x) => (float[T, 3] y) {
        shape = Shape (x)
        one = Constant <value_ints = [1, 3]> ()
        equal = Equal (shape, one)
        number = Cast <to = 1> (equal)
        sum = ReduceSum <keepdims = 0> (number)
        y = Add (x, sum)
    }""").SerializeToString()
    (here, level), file = this_processor(), tmp_path / "program"
    build(here, file, network, "y", 12, (0, 3), 0, (1, 4))
    for size in (4, 1, 2):
        x = np.zeros((size, 3), np.float32)
        result = run(file, message(x, 0), level)
        assert (result.returncode, result.stderr) == (0, b"")
        expected = tinyonnx.InferenceSession(network).run(None, {"x": x})[0]
        np.testing.assert_array_equal(np.frombuffer(result.stdout, np.float32)[: 3 * size], expected.ravel())


def test_needs_nothing_from_the_system(executable: Path) -> None:
    headers = subprocess.run(["readelf", "-lW", executable], capture_output=True, text=True, check=True).stdout
    assert "EXEC" in headers
    assert "INTERP" not in headers
    assert "DYNAMIC" not in headers


@pytest.mark.parametrize("n", [0, 5, 128 * 301 * 4 - 1, 128 * 301 * 4 + 1])
def test_says_that_the_input_has_another_size(executable: Path, n: int) -> None:
    result = run(executable, bytes(n))
    assert result.returncode == 1
    assert result.stdout == b""
    assert result.stderr.startswith(b"standard input")


@pytest.mark.parametrize(
    ("sources", "rows"),
    [
        ([], []),
        ([-1, -1], []),
        ([5, 6, 7], [(0, 5, 3, 0, 0, 0, 1)]),
        ([0, 1, 8, 9, 16, 17], [(0, 0, 2, 0, 2, 8, 3)]),
        ([0, 1, -1, 8, 9, -1, 16, 17], [(0, 0, 2, 0, 3, 8, 3)]),
        ([0, 1, 8, 9, -1, 0, 1, 2], [(0, 0, 2, 0, 2, 8, 2), (5, 0, 3, 0, 0, 0, 1)]),
        ([0, 1, 8, 9, 30, 31, 38, 39], [(0, 0, 2, 0, 2, 8, 2), (4, 30, 2, 0, 2, 8, 2)]),
    ],
)
def test_runs(sources: list[int], rows: list[tuple[int, ...]]) -> None:
    assert runs_of(np.array(sources, np.int64)).tolist() == [list(row) for row in rows]


@pytest.mark.parametrize("stride", [0, 1, 2])
def test_runs_unpack_any_order(stride: int) -> None:
    rng = np.random.default_rng(stride)
    for _ in range(200):
        n = int(rng.integers(1, 60))
        sources = (
            rng.integers(-1, 40, n)
            if rng.random() < 0.5
            else (np.arange(n) // 3 * 7 + np.arange(n) % 3 * max(stride, 1))
        )
        source, target = np.arange(1, 1000), np.zeros(n, np.int64)
        for t, s, length, stride_, target_step, step, count in runs_of(np.asarray(sources, np.int64), stride):
            for i in range(count):
                for j in range(length):
                    target[t + i * target_step + j] = source[s + i * step + j * max(stride_, 1)]
        np.testing.assert_array_equal(target, sources + 1)


def test_numbers_of_runs_take_four_bytes() -> None:
    most = 2**31 - 1
    assert numbers([]) == []
    assert numbers([0, -most, most]) == [f".long 0, {-most}, {most}"]
    assert "".join(numbers(list(range(40)))).count(",") == 40 - 3
    for wrong in (most + 1, -most - 1):
        with pytest.raises(CompileError, match=r"more than 2\^31 elements, which a binary can't hold"):
            numbers([0, wrong])


def test_halves_of_pairs_are_few_runs() -> None:
    """Rows of pairs, as panels of 16 columns have them, widened to rows of floats."""
    k, n = 40, 16
    sources = np.array([2 * (row // 2 * n + column) + row % 2 for row in range(k) for column in range(n)])
    assert runs_of(sources, 2).tolist() == [[0, 0, n, 2, 2 * n, 2 * n, k // 2], [n, 1, n, 2, 2 * n, 2 * n, k // 2]]
