"""External data: read inside the model's own folder alone, and never more than there is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.tinyonnx.onnxfile.hostile import FLOAT, refused, with_tensor
from tinyonnx.errors import ModelError
from tinyonnx.limits import Limits
from tinyonnx.onnxfile import external_data
from tinyonnx.onnxfile.load import load


def external(folder: Path, location: str, dims: list[int] | None = None, **entries: Any) -> Path:
    """Return a model in `folder` with one float initializer, also an output, at `location`.

    By default of two values.
    """
    model = with_tensor(data_type=FLOAT, dims=[2] if dims is None else dims, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        model.graph.initializer[0].external_data.add(key=key, value=str(value))
    model.graph.output.append(onnx.helper.make_tensor_value_info("w", FLOAT, None))
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a model, with eight bytes of data in it and eight more beside it."""
    (tmp_path / "secret").write_bytes(bytes(8))
    (tmp_path / "model").mkdir()
    (tmp_path / "model/data").write_bytes(bytes(8))
    return tmp_path / "model"


@pytest.fixture(params=[True, False], ids=["openat", "portable"])
def openat(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways of opening, where the system has both."""
    if request.param and not external_data._HAS_DIR_FD:
        pytest.skip("needs openat")
    monkeypatch.setattr(external_data, "_HAS_DIR_FD", request.param)
    if not request.param:
        system_open = os.open
        # without the parameter dir_fd, as on Windows
        monkeypatch.setattr(os, "open", lambda path, flags, mode=0o777: system_open(path, flags, mode))
    return bool(request.param)


def initializer(path: Path) -> np.ndarray:
    """Return the value of the initializer `w` of a model that `external` made."""
    graph = load(path, Limits())
    graph.verify()
    value = graph.outputs[-1].const
    assert value is not None
    return value


@pytest.mark.usefixtures("openat")
@pytest.mark.parametrize("location", ["data", "./data", ".//data"])
def test_external_data_that_is_fine(folder: Path, location: str):
    (folder / "data").write_bytes(np.array([1.5, -2], "<f4").tobytes())
    assert initializer(external(folder, location)).tolist() == [1.5, -2]
    assert initializer(external(folder, location, dims=[1], offset=4, length=4, checksum="?")).tolist() == [-2]


@pytest.mark.parametrize("length", [{}, {"length": 0}])
def test_external_data_without_a_length_is_as_long_as_the_tensor(folder: Path, length: dict[str, int]):
    (folder / "data").write_bytes(np.array([1.5, -2, 7], "<f4").tobytes())
    assert initializer(external(folder, "data", dims=[1], offset=4, **length)).tolist() == [-2]
    refused(external(folder, "data", dims=[3], offset=4, **length), 'initializer "w"', "12 bytes from 4 on")


@pytest.mark.usefixtures("openat")
@pytest.mark.parametrize(
    ("location", "cause"),
    [
        ("../secret", "leaves the folder"),
        ("sub/../../secret", "leaves the folder"),
        ("..", "leaves the folder"),
        ("/etc/passwd", "not a relative path"),
        ("C:\\secret", "not a relative path"),
        ("C:/secret", "not a relative path"),
        ("..\\secret", "not a relative path"),
        ("da\0ta", "not a relative path"),
        ("", "names no file"),
        (".", "names no file"),
        ("none", "No such file"),
        ("data/x", "can't be opened"),
        ("x" * 5000, "can't be opened"),
    ],
)
def test_external_data_elsewhere(folder: Path, location: str, cause: str):
    refused(external(folder, location), 'initializer "w"', cause)


@pytest.mark.usefixtures("openat")
def test_external_data_that_is_no_plain_file(folder: Path):
    (folder / "sub").mkdir()
    refused(external(folder, "sub"), "sub")
    (folder / "link").symlink_to("data")
    refused(external(folder, "link"), "symbolic link")
    (folder / "linked").symlink_to(folder.parent)
    refused(external(folder, "linked/secret"), "symbolic link")
    (folder / "hard").hardlink_to(folder.parent / "secret")
    refused(external(folder, "hard"), "hard links")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe")
        refused(external(folder, "pipe"), "not a regular file")


@pytest.mark.parametrize(
    ("entries", "cause"),
    [
        ({"offset": 4}, "8 bytes from 4 on"),
        ({"offset": 1 << 40}, "has 8 bytes"),
        ({"offset": -1}, "offset '-1' is not a valid number"),
        ({"offset": "9" * 5000}, "not a valid number"),
        ({"offset": "1_0"}, "not a valid number"),
        ({"length": 4}, "4 bytes"),
        ({"length": -8}, "not a valid number"),
        ({"dims": [3]}, "12 bytes"),
        ({"dims": [1 << 40]}, "over"),
    ],
)
def test_external_data_of_the_wrong_size(folder: Path, entries: dict[str, Any], cause: str):
    refused(external(folder, "data", **entries), 'initializer "w"', cause)


def test_external_data_without_location_or_folder(folder: Path):
    model = with_tensor(data_type=FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    refused(path, "without a location")
    refused(external(folder, "data").read_bytes(), "from bytes has no folder")


def test_overlapping_external_data_can_not_fill_the_memory(folder: Path):
    (folder / "data").write_bytes(bytes(1 << 20))
    model = onnx.load(external(folder, "data"), load_external_data=False)
    del model.graph.initializer[:]
    for i in range(50):
        tensor = model.graph.initializer.add(name=f"w{i}", data_type=FLOAT, data_location=TensorProto.EXTERNAL)
        tensor.dims.append((1 << 18) - 50)
        tensor.external_data.add(key="location", value="data")
        tensor.external_data.add(key="offset", value=str(4 * i))
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    refused(folder / "m.onnx", '"w1"', "overlapping")


def test_tied_external_data_is_read_once(folder: Path):
    model = onnx.load(external(folder, "data"), load_external_data=False)
    model.graph.initializer.add().CopyFrom(model.graph.initializer[0])
    model.graph.initializer[1].name = "tied"
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    first, second = (v.const for v in load(folder / "m.onnx", Limits()).initializers)
    assert first is not None
    assert second is not None
    assert np.shares_memory(first, second)


def test_regions_may_take_the_whole_file_and_no_byte_more(folder: Path):
    (folder / "data").write_bytes(bytes(range(8)))
    reader = external_data.ExternalData(folder)
    first, rest = reader.read("data", 0, 3), reader.read("data", 3, 5)
    assert [*first, *rest] == list(range(8))
    assert not first.flags.writeable
    assert reader.read("data", 0, 3) is first
    assert reader.read("./data", 0, 3) is first
    with pytest.raises(ModelError, match="overlapping tensors claim more"):
        reader.read("data", 7, 1)
    for offset, nbytes in ((-1, 2), (4, -1), (8, 1), (0, 9)):
        with pytest.raises(ModelError, match=f"has 8 bytes, the tensor needs {nbytes} bytes from {offset} on"):
            reader.read("data", offset, nbytes)
    reader.close()


def test_a_file_that_shrinks_after_it_was_opened(folder: Path):
    reader = external_data.ExternalData(folder)
    reader.read("data", 0, 4)
    os.truncate(folder / "data", 6)
    with pytest.raises(ModelError, match="shrank while it was read"):
        reader.read("data", 4, 4)
    reader.close()


@pytest.mark.usefixtures("openat")
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
@pytest.mark.parametrize("fails", [False, True])
def test_files_are_closed_whether_or_not_the_model_loads(folder: Path, fails: bool):
    def open_files() -> set[str]:
        paths = (os.path.join("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd"))
        return {os.readlink(path) for path in paths if os.path.exists(path)}

    (folder / "sub").mkdir()
    (folder / "sub" / "data").write_bytes(bytes(8))
    path = external(folder, "sub/data", **({"offset": 4} if fails else {}))
    if fails:
        refused(path, "8 bytes from 4 on")
        refused(external(folder, "sub"), "not a regular file")
    else:
        assert len(initializer(path)) == 2
    assert not [name for name in open_files() if name.startswith(str(folder))]


def test_a_tensor_without_elements(folder: Path):
    assert initializer(external(folder, "data", dims=[0], offset=8)).shape == (0,)


@pytest.mark.parametrize(("offset", "mapped"), [(0, True), (64, True), (4096 + 64, True), (65536, True), (68, False)])
def test_large_aligned_regions_are_mapped(folder: Path, monkeypatch: pytest.MonkeyPatch, offset: int, mapped: bool):
    monkeypatch.setattr(external_data, "_MAPPED", 4000)
    seen: list[int] = []
    real = external_data._map
    monkeypatch.setattr(external_data, "_map", lambda *args: seen.append(args[2]) or real(*args))
    values = np.arange(20_000, dtype="<f4")
    (folder / "data").write_bytes(bytes(offset) + values.tobytes())
    assert initializer(external(folder, "data", dims=[1000], offset=offset)).tolist() == list(range(1000))
    assert seen == [offset] * mapped
