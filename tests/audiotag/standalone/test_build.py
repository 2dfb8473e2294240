"""The whole program, built for the model that ships with the package."""

from __future__ import annotations

import io
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audiotag import Tagger
from audiotag.commands.demo import synthesise
from audiotag.standalone.source import NAME
from tests.audiotag.standalone import programs

pytest.importorskip("ziglang")
if sys.platform != "linux" or platform.machine() != "x86_64":
    pytest.skip("native code is for x86-64 Linux", allow_module_level=True)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return programs.program("x86_64-linux", tmp_path_factory)


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Parts of the demo's sound, of many lengths, as WAV files."""
    folder, sound = tmp_path_factory.mktemp("clips"), synthesise()
    lengths = {"whole": 320000, "five": 160000, "short": 9000, "tiny": 3, "hour": 12 * 320000}
    for name, length in lengths.items():
        soundfile.write(folder / f"{name}.wav", np.resize(sound, length), 32000, subtype="FLOAT")
    stereo = np.stack([sound, 0.5 * np.roll(sound, 99)], axis=1)
    soundfile.write(folder / "stereo.wav", stereo, 44100, subtype="PCM_24")
    return {name: folder / f"{name}.wav" for name in (*lengths, "stereo")}


def run(program: Path, *args: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([program, *map(str, args)], capture_output=True, env=options.pop("env", {}), **options)


def errors_of(result: subprocess.CompletedProcess[bytes]) -> list[bytes]:
    """Return the lines on stderr that are not warnings."""
    return [line for line in result.stderr.splitlines() if b": warning: " not in line]


@pytest.mark.parametrize("name", ["whole", "five", "short", "tiny", "hour"])
def test_tags_like_the_package(program: Path, tagger: Tagger, clips: dict[str, Path], name: str) -> None:
    result = run(program, "--json", clips[name])
    row, expected = json.loads(result.stdout), tagger.tag(clips[name]).to_dict()
    assert (result.returncode, errors_of(result)) == (0, [])
    assert len(result.stderr.splitlines()) == ("warning" in row) == ("warning" in expected)
    assert [t["label"] for t in row["tags"]] == [t["label"] for t in expected["tags"]]
    np.testing.assert_allclose([t["score"] for t in row["tags"]], [t["score"] for t in expected["tags"]], atol=2e-5)
    del row["tags"], expected["tags"]
    assert row == {key: value for key, value in expected.items() if key in row}


@pytest.mark.parametrize("level", ["v2", "v3"])
def test_lower_levels_agree(program: Path, clips: dict[str, Path], level: str) -> None:
    best, lower = (
        json.loads(run(program, "--json", "--top", 50, clips["whole"], env=env).stdout)["tags"]
        for env in ({}, {"TINYONNX_CPU": level})
    )
    scores = {tag["index"]: tag["score"] for tag in lower}
    for tag in best[:40]:
        assert abs(tag["score"] - scores[tag["index"]]) < 1e-4


def test_other_rates_and_channels(program: Path, tagger: Tagger, clips: dict[str, Path]) -> None:
    row = json.loads(run(program, "--json", clips["stereo"]).stdout)
    expected = tagger.tag(clips["stereo"])
    assert row["tags"][0]["label"] == expected.tags[0].label
    np.testing.assert_allclose([t["score"] for t in row["tags"]], [t.score for t in expected.tags], atol=5e-3)


def test_standard_input_and_samples_without_a_header(program: Path, clips: dict[str, Path]) -> None:
    samples, _ = soundfile.read(clips["five"], dtype="float32")
    from_file = json.loads(run(program, "--json", clips["five"]).stdout)
    from_pipe = json.loads(run(program, "--json", "-", input=clips["five"].read_bytes()).stdout)
    raw = json.loads(run(program, "--json", "-", "--raw", "f32le", "--rate", 32000, input=samples.tobytes()).stdout)
    assert from_file["tags"] == from_pipe["tags"] == raw["tags"]


def test_a_failure_is_one_of_many(program: Path, clips: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    result = run(program, tmp_path / "none.wav", clips["short"], tmp_path / "text.wav", clips["five"])
    assert result.returncode == 1
    assert result.stdout.count(b" s)  [") == 2
    assert len(errors_of(result)) == 2


def test_closed_standard_input_is_no_other_file(program: Path, clips: dict[str, Path]) -> None:
    # closed by a shell: in the test's own process another file may have become number 0
    arguments = [program, clips["five"], "-", clips["short"]]
    result = run(Path("/bin/sh"), "-c", 'exec "$0" "$@" <&-', *arguments)
    assert (result.returncode, result.stdout.count(b" s)  [")) == (1, 2)
    assert errors_of(result) == [b"audio-inference: -: Bad file descriptor"]


def test_needs_no_other_file(program: Path, clips: dict[str, Path], tmp_path: Path) -> None:
    headers = subprocess.run(["readelf", "-lW", program], capture_output=True, text=True, check=True).stdout
    assert "INTERP" not in headers
    assert "DYNAMIC" not in headers
    if os.getuid() != 0:
        pytest.skip("only root may change the root folder")
    shutil.copy(program, tmp_path)
    shutil.copy(clips["five"], tmp_path)

    def confine() -> None:
        os.chroot(tmp_path)
        os.chdir("/")
        os.setgid(65534)
        os.setuid(65534)

    tmp_path.chmod(0o755)
    found = subprocess.run([f"/{program.name}", "/five.wav"], capture_output=True, env={}, preexec_fn=confine)
    assert (found.returncode, found.stderr) == (0, b"")
    assert found.stdout.replace(b"/five", bytes(clips["five"].with_suffix(""))) == run(program, clips["five"]).stdout


def test_size(program: Path, tagger: Tagger) -> None:
    weights = sum(v.const.size for v in tagger.network.session.graph.initializers if v.const is not None)
    assert program.stat().st_size <= 4 * weights + (2 << 20)


def test_little_memory(program: Path, clips: dict[str, Path]) -> None:
    """A clip for which there is too little memory says how much it needs, which then is enough."""

    def tag(mebibytes: int, *args: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
        limit = (mebibytes << 20, mebibytes << 20)
        return run(program, *args, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit), **options)

    result = tag(24, clips["short"], clips["hour"], clips["tiny"])
    assert (result.returncode, result.stdout.count(b" s)  [")) == (1, 2)
    (message,) = errors_of(result)
    needed = int(message.removeprefix(f"{NAME}: {clips['hour']}: needs ".encode()).removesuffix(b" MiB of memory"))
    assert 24 < needed < 100
    whole = tag(needed, clips["hour"])
    assert (whole.returncode, whole.stderr) == (0, b"")
    # windows need no more for more sound
    assert tag(24, clips["hour"], "--window", "5").returncode == 0
    data = clips["hour"].read_bytes()
    assert tag(24, "-", "--window", "5", input=data).stdout == tag(999, "-", "--window", "5", input=data).stdout


def test_headers_gone_wrong(program: Path, tmp_path: Path) -> None:
    """For any content of a header, the program tags the clip or reports the problem."""
    good = io.BytesIO()
    soundfile.write(good, np.zeros((500, 2)), 32000, format="WAVEX", subtype="PCM_16")
    rng = np.random.default_rng(0)
    files = []
    for number in range(2000):
        data = np.frombuffer(good.getvalue(), np.uint8).copy()
        at = rng.integers(0, 100, rng.integers(1, 6))
        data[at] = rng.choice([0, 1, 2, 3, 8, 16, 127, 128, 255, *range(256)], len(at))
        files.append(tmp_path / f"{number}.wav")
        files[-1].write_bytes(data[: rng.integers(0, len(data) + 1) if rng.random() < 0.2 else None].tobytes())
    result = run(program, "--json", *files, timeout=300)
    assert result.returncode == 1
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["path"] for row in rows] == list(map(str, files))
    assert len(errors_of(result)) == sum("error" in row for row in rows)
    assert len(result.stderr.splitlines()) == len(errors_of(result)) + sum("warning" in row for row in rows)
