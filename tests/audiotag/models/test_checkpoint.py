from __future__ import annotations

import builtins
import io
import os
import pickle
import struct
import subprocess
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from audiotag.models.checkpoint import CheckpointError, read_checkpoint
from tests.audiotag.models import torchfile
from tests.audiotag.models.torchfile import Parameter, Storage, Tensor, tensor

RNG = np.random.default_rng(0)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def settles(path: Path) -> dict[str, np.ndarray] | None:
    """Return the tensors that are read, None if the checkpoint is refused; any other outcome fails the test."""
    try:
        return read_checkpoint(path)
    except CheckpointError:
        return None


# -- checkpoints that are read ------------------------------------------------------------


def test_the_real_checkpoint(shared):
    state = read_checkpoint(shared / "data/mn04_as_mAP_432.pt")
    assert len(state) == 312
    assert state["features.0.0.weight"].shape == (8, 1, 3, 3)
    assert state["classifier.5.weight"].shape == (527, 512)
    assert state["features.0.1.num_batches_tracked"].dtype == np.int64
    trainable = [a for n, a in state.items() if ".running_" not in n and not n.endswith("num_batches_tracked")]
    assert sum(a.size for a in trainable) == 983_599
    assert all(np.isfinite(a).all() and not a.flags.writeable for a in state.values())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("FloatStorage", "<f4"),
        ("DoubleStorage", "<f8"),
        ("HalfStorage", "<f2"),
        ("LongStorage", "<i8"),
        ("IntStorage", "<i4"),
        ("ShortStorage", "<i2"),
        ("CharStorage", "i1"),
        ("ByteStorage", "u1"),
        ("BoolStorage", "?"),
    ],
)
def test_types(tmp_path, kind, dtype, protocol):
    array = (RNG.standard_normal((3, 4, 5)) * 50).astype(dtype)
    state = read_checkpoint(torchfile.save(tmp_path / "a.pt", OrderedDict(w=tensor(array, kind)), protocol))
    assert state["w"].dtype == array.dtype
    np.testing.assert_array_equal(state["w"], array)


def test_bfloat16_becomes_float32(tmp_path):
    exact = np.array([1.0, -2.5, 3.140625, np.inf, 2.0**-126], np.float32)
    bits = (exact.view(np.uint32) >> 16).astype("<u2")
    state = read_checkpoint(torchfile.save(tmp_path / "a.pt", {"w": tensor(bits, "BFloat16Storage")}))
    assert state["w"].dtype == np.float32
    np.testing.assert_array_equal(state["w"], exact)


def test_views_of_a_shared_storage(tmp_path):
    flat = np.arange(60, dtype=np.float32)
    storage = Storage("FloatStorage", flat)
    content = {
        "transposed": Tensor(storage, 0, (5, 12), (1, 5)),
        "strided": Tensor(storage, 3, (4, 2), (10, 2)),
        "scalar": Tensor(storage, 59, (), ()),
        "empty": Tensor(storage, 60, (0, 3), (3, 1)),
        "parameter": Parameter(Tensor(storage, 10, (2, 5), (5, 1))),
    }
    state = read_checkpoint(torchfile.save(tmp_path / "a.pt", content))
    np.testing.assert_array_equal(state["transposed"], flat.reshape(12, 5).T)
    np.testing.assert_array_equal(state["strided"], [[3, 5], [13, 15], [23, 25], [33, 35]])
    assert state["scalar"].shape == ()
    assert state["scalar"] == 59
    assert state["empty"].shape == (0, 3)
    np.testing.assert_array_equal(state["parameter"], flat[10:20].reshape(2, 5))
    assert np.shares_memory(state["transposed"], state["parameter"])


def test_nested_state_dict_with_metadata(tmp_path):
    weights = OrderedDict(w=tensor(np.ones((2, 2), np.float32)))
    weights._metadata = OrderedDict(version=1)
    content = {"epoch": 3, "loss": [0.5, None, True], "shape": (1, 2), "state_dict": weights}
    state = read_checkpoint(torchfile.save(tmp_path / "a.pt", content))
    assert list(state) == ["w"]


# -- checkpoints that are refused without running them ------------------------------------

RAN: list[str] = []


def record(what: str = "") -> None:
    RAN.append(what)


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class EvilState:
    def __init__(self):
        self.marker = 1

    def __setstate__(self, state):
        record("setstate")


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (os.system, "system"),
        (builtins.eval, "eval"),
        (builtins.exec, "exec"),
        (builtins.getattr, "getattr"),
        (os.mkdir, "mkdir"),
        (subprocess.Popen, "Popen"),
        (record, "test_checkpoint.record"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_call_is_refused_and_not_made(tmp_path, monkeypatch, function, named, protocol):
    marker = tmp_path / "ran"
    argument = {
        "system": f"touch {marker}",
        "eval": f"open({str(marker)!r}, 'w')",
        "exec": f"open({str(marker)!r}, 'w')",
        "Popen": ["touch", str(marker)],
    }.get(named, str(marker))
    monkeypatch.setattr(pickle, "loads", None)
    path = torchfile.save(tmp_path / "evil.pt", {"w": Evil(function, argument)}, protocol)
    message = refusal(path)
    if protocol >= 2:
        assert named in message
    assert "refused" in message
    assert not marker.exists()
    assert not RAN


@pytest.mark.parametrize(
    "pickled",
    [
        b"cos\nsystem\n(S'touch ran'\ntR.",
        b"cposix\nsystem\n(S'touch ran'\ntR.",
        b"(S'touch ran'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch ran'\no.",
        b"\x80\x02cos\nsystem\nU\ttouch ran\x85\x81.",
        b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x8c\ttouch ran\x85R.",
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
        b"\x80\x02ccollections\nOrderedDict\n(cos\nsystem\nX\x01\x00\x00\x00aetR.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(cos\nsystem\nX\x01\x00\x00\x00atR.",
        b"\x80\x02ctorch.nn\nModule\n)\x81.",
        b"\x80\x02ctorch\nload\nX\x01\x00\x00\x00a\x85R.",
    ],
)
def test_handwritten_attacks(tmp_path, monkeypatch, pickled):
    monkeypatch.chdir(tmp_path)
    message = refusal(torchfile.write(tmp_path / "evil.pt", pickled))
    assert "refused" in message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.pt"]


def test_the_refused_name_is_told(tmp_path):
    assert "os.system" in refusal(torchfile.write(tmp_path / "a.pt", b"cos\nsystem\n(S'x'\ntR."))
    assert "posix.system" in refusal(torchfile.write(tmp_path / "a.pt", b"(iposix\nsystem\n."))
    stacked = b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93."
    assert "builtins.eval" in refusal(torchfile.write(tmp_path / "a.pt", stacked))


def test_an_evil_call_deep_inside(tmp_path):
    content = {"state_dict": OrderedDict(w=[({"x": (1, Evil(record, "nested"))},)])}
    assert "record" in refusal(torchfile.save(tmp_path / "a.pt", content))
    assert "EvilState" in refusal(torchfile.save(tmp_path / "b.pt", {"w": EvilState()}))
    assert not RAN


@pytest.mark.parametrize(
    ("identifier", "what"),
    [
        (b"X\x03\x00\x00\x00abcQ.", "persistent id"),
        (
            b"(X\x07\x00\x00\x00storageccollections\nOrderedDict\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ.",
            "persist",
        ),
        (
            b"(X\x07\x00\x00\x00storageX\x02\x00\x00\x00osX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ.",
            "persistent id",
        ),
    ],
)
def test_persistent_ids_are_storages_only(tmp_path, identifier, what):
    assert what in refusal(torchfile.write(tmp_path / "a.pt", b"\x80\x02" + identifier))


# -- what would take forever, or all memory -----------------------------------------------


def test_nested_tuples_as_a_key_are_not_hashed(tmp_path):
    """Hashing 2^60 leaves would not end."""
    pickled = b"\x80\x02}K\x01" + b"q\x00h\x00\x86" * 60 + b"K\x01s."
    assert "damaged pickle" in refusal(torchfile.write(tmp_path / "a.pt", pickled))


def test_nested_tuples_as_a_name_are_not_spelled_out(tmp_path):
    pickled = b"\x80\x04\x8c\x02osK\x01" + b"q\x00h\x00\x86" * 60 + b"\x93."
    assert "damaged pickle" in refusal(torchfile.write(tmp_path / "a.pt", pickled))


def test_deep_nesting(tmp_path):
    refusal(torchfile.write(tmp_path / "a.pt", b"\x80\x02)" + b"\x85" * 200_000 + b"."))


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02}r\xff\xff\xff\x7f.",
        b"\x80\x04\x96\x00\x00\x00\x00\xff\x00\x00\x00.",
        b"\x80\x04\x8d\x00\x00\x00\x00\xff\x00\x00\x00.",
        b"\x80\x04\x95\x00\x00\x00\x00\xff\x00\x00\x00}.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
    ],
)
def test_small_pickles_that_ask_for_much_memory(tmp_path, pickled):
    assert settles(torchfile.write(tmp_path / "a.pt", pickled)) in ({}, None)


def test_large_pickle(tmp_path):
    assert "data.pkl" in refusal(torchfile.write(tmp_path / "a.pt", b"\x80\x02" + b"N0" * (9 << 20) + b"}."))


def test_compressed_entries(tmp_path):
    pickled, storages = torchfile.dumps({"w": tensor(np.zeros(1 << 20, np.float32))})
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickled, zipfile.ZIP_STORED)
        archive.writestr("archive/data/0", storages[0].data.tobytes())
    assert "compressed" in refusal(tmp_path / "bomb.pt")


@pytest.mark.parametrize(
    "bad",
    [
        Tensor(Storage("FloatStorage", np.zeros(4, np.float32)), 0, (2, 3), (3, 1)),
        Tensor(Storage("FloatStorage", np.zeros(4, np.float32)), 2, (3,), (1,)),
        Tensor(Storage("FloatStorage", np.zeros(4, np.float32)), 0, (2,), (4,)),
        Tensor(Storage("FloatStorage", np.zeros(4, np.float32)), 0, (1 << 40,), (0,)),
        # 4 steps of 2**62 bytes: 0 in 64 bits
        Tensor(Storage("FloatStorage", np.zeros(8, np.float32)), 0, (5,), (1 << 60,)),
        Tensor(Storage("FloatStorage", np.zeros(4, np.float32)), 1 << 70, (1,), (1,)),
        Tensor(Storage("FloatStorage", np.zeros(4, np.float32)), 3, (2,), (-1,)),
        Tensor(Storage("FloatStorage", np.zeros(4, np.float32)), 0, (2, 2), (1,)),
        Tensor(Storage("FloatStorage", np.zeros(4, np.float32)), 0, (1,) * 65, (1,) * 65),
        Tensor(Storage("FloatStorage", np.zeros(4, np.float32)), 0, (0, 1 << 80), (1, 1)),
        Tensor(Storage("FloatStorage", np.zeros(4, np.float32)), 0, (2.0,), (1,)),
    ],
)
def test_tensors_beyond_their_storage(tmp_path, bad):
    refusal(torchfile.save(tmp_path / "a.pt", {"w": bad}))


def test_storage_of_another_size_than_its_entry(tmp_path):
    pickled, _ = torchfile.dumps({"w": tensor(np.zeros(8, np.float32))})
    for size in (7, 9):
        path = torchfile.write(tmp_path / "a.pt", pickled, [Storage("FloatStorage", np.zeros(size, np.float32))])
        assert f"{4 * size} bytes" in refusal(path)
    assert "data/0" in refusal(torchfile.write(tmp_path / "a.pt", pickled))


# -- files that are not checkpoints -------------------------------------------------------


def test_truncated_anywhere(tmp_path):
    whole = torchfile.save(tmp_path / "whole.pt", {"w": tensor(np.ones(64, np.float32))}).read_bytes()
    path = tmp_path / "cut.pt"
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        refusal(path)


def test_truncated_pickle_anywhere(tmp_path):
    pickled, storages = torchfile.dumps({"w": tensor(np.ones(64, np.float32))})
    for length in range(len(pickled)):
        refusal(torchfile.write(tmp_path / "a.pt", pickled[:length], storages))


def test_flipped_bytes_in_the_pickle_never_crash(tmp_path):
    pickled, storages = torchfile.dumps({"w": tensor(np.ones((2, 3), np.float32)), "b": tensor(np.ones(3))})
    for _ in range(300):
        broken = bytearray(pickled)
        broken[RNG.integers(len(broken))] = RNG.integers(256)
        path = torchfile.write(tmp_path / "a.pt", bytes(broken), storages)
        settles(path)


@pytest.mark.parametrize("escape", [b"\\8", b"\\d", b"\\777", b"\\x"])
def test_text_of_old_pickles_with_odd_escapes_is_refused(escape, tmp_path):
    path = torchfile.write(tmp_path / "a.pt", b"S'" + escape + b"'\n.", {})
    assert "pickle" in refusal(path)


def test_a_flipped_byte_of_data_is_noticed(tmp_path):
    path = torchfile.save(tmp_path / "a.pt", {"w": tensor(np.full(64, 1.5, np.float32))})
    data = bytearray(path.read_bytes())
    data[data.index(np.full(4, 1.5, np.float32).tobytes())] ^= 1
    path.write_bytes(data)
    assert "damaged" in refusal(path)


def test_other_files(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(b"")
    assert "is empty" in refusal(path)
    path.write_bytes(RNG.bytes(5000))
    assert "not a checkpoint" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "not from torch.save" in refusal(path)
    assert "can't be read" in refusal(tmp_path / "missing.pt")
    assert "can't be read" in refusal(tmp_path)


def test_the_tar_format_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("pickle")
        info.size = 4
        archive.addfile(info, io.BytesIO(struct.pack("<I", 0)))
    assert "PyTorch's legacy tar format" in refusal(path)


def test_big_endian(tmp_path):
    pickled, storages = torchfile.dumps({"w": tensor(np.ones(2, np.float32))})
    assert "big-endian" in refusal(torchfile.write(tmp_path / "a.pt", pickled, storages, byteorder=b"big"))


def test_not_a_state_dict(tmp_path):
    assert "'lr' is a float" in refusal(torchfile.save(tmp_path / "a.pt", {"lr": 0.1}))
    assert "not a state dict" in refusal(torchfile.save(tmp_path / "a.pt", [tensor(np.ones(2, np.float32))]))
