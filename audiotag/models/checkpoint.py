"""Reader for files written by `torch.save`, without torch and without executing anything in them."""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from audiotag.errors import ModelError, printable
from audiotag.models.pickles import Refusal, Storage, StoredTensor, run_pickle

if TYPE_CHECKING:
    from tinyonnx.ir import Array

MAX_PICKLE_BYTES = 16 << 20
"""Maximum size of the pickles in a checkpoint, which do not include the tensor data."""

_NESTED_KEYS = ("state_dict", "model_state_dict", "model")

_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class CheckpointError(ModelError):
    """The checkpoint can't be read; the message names the file."""


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read the tensors of a state dict by name, in the order of the file; the arrays are read-only.

    The state dict may be the whole file or its entry `state_dict`, `model_state_dict` or `model`. Tensors
    keep their shape and type, except that bfloat16 becomes float32, exactly; tensors with a common
    storage share memory.

    Raises CheckpointError for anything but a little-endian file as written by `torch.save`: a zip file, or a legacy
    file, as before PyTorch 1.6. Nothing in the file is ever executed.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            if _is_legacy(file):
                return _read_legacy(file, os.fstat(file.fileno()).st_size)
            with zipfile.ZipFile(file) as archive:
                return _Archive(archive, os.fstat(file.fileno()).st_size).read()
    except Refusal as error:
        raise CheckpointError(printable(f"{name}: {error}")) from None
    except OSError as error:
        raise CheckpointError(printable(f"{name}: can't be read: {error.strerror or error}")) from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        RuntimeError,
        NotImplementedError,
        ValueError,
        OverflowError,
    ) as error:
        raise CheckpointError(printable(f"{name}: is damaged or truncated: {error}")) from None


def _is_legacy(file: BinaryIO) -> bool:
    """Return whether a file is a legacy file; a zip file otherwise. Raises Refusal for other files."""
    head = file.read(512)
    file.seek(0)
    if not head:
        raise Refusal("is empty")
    if head.startswith(b"PK\x03\x04"):
        return False
    if head[:1] == b"\x80":
        return True
    if head[257:262] == b"ustar":
        raise Refusal("is in PyTorch's legacy tar format; load it there and torch.save it again")
    raise Refusal("is not a checkpoint: torch.save writes a zip file")


# -- state dicts ------------------------------------------------------------------------


class _Tensors:
    """Tensors whose storages are read by a function, each once."""

    def __init__(self, read: Callable[[Storage], bytes]) -> None:
        self._read = read
        self._arrays: dict[str, Array] = {}

    def state(self, tree: Any) -> dict[str, Array]:
        """Read the state dict in the content of a checkpoint."""
        for key in _NESTED_KEYS:
            if isinstance(tree, dict) and isinstance(tree.get(key), dict):
                tree = tree[key]
        if not isinstance(tree, dict):
            raise Refusal(f"has a {type(tree).__name__.strip('_')} and not a state dict")
        state = {}
        for name, tensor in tree.items():
            if not isinstance(name, str) or not isinstance(tensor, StoredTensor):
                raise Refusal(
                    f"is not a state dict: {str(name)[:99]!r} is a {type(tensor).__name__.strip('_')}, not a tensor"
                )
            state[name] = self._tensor(name, tensor)
        return state

    def _tensor(self, name: str, tensor: StoredTensor) -> Array:
        storage, offset, shape, strides = tensor
        flat = self._storage(storage)
        size = math.prod(shape)
        beyond = Refusal(f"has a tensor {name[:99]!r} of shape {shape} beyond its storage of {len(flat)} elements")
        if size > len(flat):
            raise beyond
        if not size:
            return np.empty(shape, flat.dtype)
        # with Python integers, because numpy's own check overflows for huge strides
        if offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) >= len(flat):
            raise beyond
        array: Array = np.ndarray(
            shape, flat.dtype, flat.data, offset * flat.itemsize, [step * flat.itemsize for step in strides]
        )
        array.flags.writeable = False
        return array

    def _storage(self, storage: Storage) -> Array:
        known = self._arrays.get(storage.key)
        if known is not None:
            return known
        data = self._read(storage)
        array: Array = np.frombuffer(data, storage.dtype)
        if storage.kind == "BFloat16Storage":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        elif storage.kind == "BoolStorage":
            array = np.frombuffer(data, np.uint8).astype(np.bool_)
        self._arrays[storage.key] = array
        return array


# -- zip files --------------------------------------------------------------------------


class _Archive:
    """An open checkpoint archive; `unread` bounds the bytes that may still be read."""

    def __init__(self, archive: zipfile.ZipFile, nbytes: int) -> None:
        self.archive = archive
        self.unread = nbytes
        self.entries = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in self.entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise Refusal(f"is a zip file, but not from torch.save: it has {len(pickles)} files data.pkl")
        self.folder = pickles[0].removesuffix("data.pkl")

    def read(self) -> dict[str, Array]:
        if self.folder + "byteorder" in self.entries and self._entry("byteorder", 64).strip() != b"little":
            raise Refusal("was written on a big-endian machine, which is not supported")
        return _Tensors(self._storage).state(run_pickle(self._entry("data.pkl", MAX_PICKLE_BYTES)))

    def _entry(self, name: str, limit: int) -> bytes:
        """Read an entry after checking its size.

        Entries must be uncompressed, and their total size must not exceed that of the file, so that
        they can't overlap.
        """
        info = self.entries.get(self.folder + name)
        if info is None:
            raise Refusal(f"has no entry {name}")
        if info.compress_type != zipfile.ZIP_STORED:
            raise Refusal(f"has the compressed entry {name}, which torch.save never writes")
        if info.file_size > limit or info.file_size != info.compress_size:
            raise Refusal(f"has {info.file_size} bytes in entry {name}, at most {limit} are allowed")
        self.unread -= info.file_size
        if self.unread < 0:
            raise Refusal("has entries that overlap")
        return self.archive.read(info)

    def _storage(self, storage: Storage) -> bytes:
        data = self._entry(f"data/{storage.key}", storage.nbytes)
        if len(data) != storage.nbytes:
            raise Refusal(f"has {len(data)} bytes in storage {storage.key}, its tensors need {storage.nbytes}")
        return data


# -- legacy files -----------------------------------------------------------------------


def _read_legacy(file: BinaryIO, nbytes: int) -> dict[str, Array]:
    """Read a legacy file: five pickles, then each storage as its number of elements (int64) and its data.

    The pickles are a magic number, a protocol version, facts about the machine, the content and the keys of the
    storages in the order of their data.
    """
    pickled = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    if run_pickle(pickled) != _LEGACY_MAGIC:
        raise Refusal("is a pickle, but not from torch.save")
    if (version := run_pickle(pickled)) != _LEGACY_PROTOCOL:
        raise Refusal(f"has version {str(version)[:20]} of PyTorch's legacy format, known is {_LEGACY_PROTOCOL}")
    machine = run_pickle(pickled)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise Refusal("was written on a big-endian machine, which is not supported")
    storages: dict[str, Storage] = {}
    tree = run_pickle(pickled, storages)
    keys = run_pickle(pickled)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or len(set(keys)) < len(keys):
        raise Refusal("is damaged: it has no list of its storages")
    begins: dict[str, int] = {}
    position = pickled.tell()
    for key in keys:
        storage = storages.get(key)
        if storage is None:
            raise Refusal(f"has a storage {key[:99]} that no tensor uses, and so of unknown type")
        file.seek(position)
        found = file.read(8)
        if len(found) == 8 and (count := struct.unpack("<q", found)[0]) != storage.count:
            raise Refusal(f"has {count} elements in storage {key[:99]}, its tensors need {storage.count}")
        begins[key] = position + 8
        position += 8 + storage.nbytes
        if position > nbytes:
            raise Refusal("is damaged or truncated: it ends within its tensors")

    def read(storage: Storage) -> bytes:
        if storage.key not in begins:
            raise Refusal(f"has no data of storage {storage.key[:99]}")
        file.seek(begins[storage.key])
        return file.read(storage.nbytes)

    return _Tensors(read).state(tree)
