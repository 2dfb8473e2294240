"""Files of `torch.save` before PyTorch 1.6."""

from __future__ import annotations

import os
import pickle
import struct
from collections import OrderedDict
from contextlib import suppress

import numpy as np
import pytest

from audiotag.models.checkpoint import CheckpointError, read_checkpoint
from tests.audiotag.models import torchfile
from tests.audiotag.models.torchfile import Storage, Tensor, tensor


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.pth"


def content():
    flat = np.arange(24, dtype=np.float32)
    shared = Storage("FloatStorage", flat)
    return {
        "iteration": 3,
        "sampler": {"pointer": 1, "indexes": np.arange(9), "best": np.float64(0.4)},
        "model": OrderedDict(
            first=Tensor(shared, 0, (4, 6), (6, 1)),
            turned=Tensor(shared, 0, (6, 4), (1, 6)),
            count=tensor(np.array(7, np.int64), "LongStorage"),
            half=tensor(np.array([1, 2], np.float16), "HalfStorage"),
        ),
    }


def test_a_nested_state_dict_beside_numpy_arrays(path):
    state = read_checkpoint(torchfile.save_legacy(path, content()))
    expected = np.arange(24, dtype=np.float32).reshape(4, 6)
    assert list(state) == ["first", "turned", "count", "half"]
    np.testing.assert_array_equal(state["first"], expected)
    np.testing.assert_array_equal(state["turned"], expected.T)
    assert state["count"] == 7
    assert state["half"].dtype == np.float16
    assert np.shares_memory(state["first"], state["turned"])


def test_a_published_one(shared):
    state = read_checkpoint(shared / "data/families/panns/panns_mobilenetv2.pt")
    assert len(state) == 324
    assert state["fc_audioset.weight"].shape == (527, 1024)
    assert all(np.isfinite(array).all() for array in state.values())


def test_truncated_or_extended_anywhere(path):
    whole = torchfile.save_legacy(path, content()).read_bytes()
    for size in [*range(1, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:size])
        refusal(path)
    path.write_bytes(whole + b"\0" * 9)
    assert list(read_checkpoint(path))


def test_flipped_bytes_never_crash(path):
    whole = torchfile.save_legacy(path, content()).read_bytes()
    for position in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[position] ^= 0x41
        path.write_bytes(damaged)
        with suppress(CheckpointError):
            read_checkpoint(path)


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("place", range(5))
def test_no_pickle_of_the_file_is_run(place, path, tmp_path):
    marker = tmp_path / "ran"
    parts = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2)]
    parts += [pickle.dumps({}, 2), pickle.dumps([], 2)]
    parts[place] = pickle.dumps(Evil(marker), 2)
    path.write_bytes(b"".join(parts))
    assert "mkdir" in refusal(path)
    assert not marker.exists()


def test_numpy_names_call_nothing(path):
    pickled = b"\x80\x02cnumpy.core.multiarray\nscalar\ncos\nsystem\n\x85R."
    start = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    path.write_bytes(start + pickled)
    assert "os.system" in refusal(path)


def test_other_pickles(path):
    path.write_bytes(pickle.dumps([1, 2], 2))
    assert "is a pickle, but not from torch.save" in refusal(path)
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1000, 2))
    assert "version 1000 of PyTorch's legacy format" in refusal(path)
    torchfile.save_legacy(path, content(), little_endian=False)
    assert "big-endian" in refusal(path)


def test_storages_of_another_size(path):
    whole = torchfile.save_legacy(path, {"w": tensor(np.ones(5, np.float32))}).read_bytes()
    data = struct.pack("<q", 5) + np.ones(5, np.float32).tobytes()
    assert whole.endswith(data)
    path.write_bytes(whole[: -len(data)] + struct.pack("<q", 4) + np.ones(4, np.float32).tobytes())
    assert "has 4 elements in storage 0, its tensors need 5" in refusal(path)
