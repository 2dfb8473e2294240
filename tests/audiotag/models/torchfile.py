"""Writes files as `torch.save` does, by way of Python's own pickler and without torch."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


class Storage:
    """A flat array that is pickled by a persistent id."""

    def __init__(self, kind: str, data: np.ndarray) -> None:
        self.kind = kind
        self.data = data


class Tensor:
    """Pickles as torch.Tensor does: a call of `_rebuild_tensor_v2`."""

    def __init__(self, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


class Parameter:
    """Pickles as torch.nn.Parameter does."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.modules["torch._utils"]._rebuild_parameter, (self.tensor, True, OrderedDict())


def tensor(array: np.ndarray, kind: str = "FloatStorage") -> Tensor:
    """Return a contiguous tensor with a storage of its own."""
    strides = tuple(s // array.itemsize for s in np.ascontiguousarray(array).strides)
    return Tensor(Storage(kind, array.reshape(-1)), 0, array.shape, strides if array.ndim else ())


@contextmanager
def fake_torch() -> Iterator[types.ModuleType]:
    """Yield modules that make the pickler write torch's names."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        function = types.FunctionType((lambda: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)
    torch._utils = utils
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield torch
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def dumps(content: Any, protocol: int = 2, legacy: bool = False) -> tuple[bytes, list[Storage]]:
    """Return the pickle, and the storages that it refers to by their place."""
    storages: list[Storage] = []
    with fake_torch() as torch:

        class Pickler(pickle.Pickler):
            def persistent_id(self, obj: Any) -> Any:
                if not isinstance(obj, Storage):
                    return None
                if not any(obj is s for s in storages):
                    storages.append(obj)
                if not hasattr(torch, obj.kind):
                    setattr(torch, obj.kind, type(obj.kind, (), {"__module__": "torch"}))
                key = next(i for i, s in enumerate(storages) if s is obj)
                view = (None,) if legacy else ()
                return "storage", getattr(torch, obj.kind), str(key), "cpu", len(obj.data), *view

        buffer = io.BytesIO()
        Pickler(buffer, protocol).dump(content)
    return buffer.getvalue(), storages


def write(path: Path, pickled: bytes, storages: list[Storage] | None = None, **entries: bytes) -> Path:
    """Return the zip file around a pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", entries.pop("byteorder", b"little"))
        for i, storage in enumerate(storages or []):
            archive.writestr(f"archive/data/{i}", storage.data.tobytes())
        for name, data in entries.items():
            archive.writestr(f"archive/{name}", data)
        archive.writestr("archive/version", b"3\n")
    return path


def save(path: Path, content: Any, protocol: int = 2) -> Path:
    """Write a file like `torch.save(content, path)`."""
    return write(path, *dumps(content, protocol))


def save_legacy(path: Path, content: Any, little_endian: bool = True) -> Path:
    """Write a file like `torch.save(content, path, _use_new_zipfile_serialization=False)`."""
    pickled, storages = dumps(content, legacy=True)
    facts = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    keys = [str(i) for i in range(len(storages))]
    before, after = (
        b"".join(pickle.dumps(value, 2) for value in values)
        for values in ((0x1950A86A20F9469CFC6C, 1001, facts), (keys,))
    )
    data = b"".join(struct.pack("<q", len(storage.data)) + storage.data.tobytes() for storage in storages)
    path.write_bytes(before + pickled + after + data)
    return path
