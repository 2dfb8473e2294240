"""Reader for files written by `torch.save`, without torch and without executing anything in them.

A checkpoint contains a pickle, and a pickle is a program that may call any function. Here its
opcodes are interpreted by a machine that supports containers, numbers, text and tensors only and
calls nothing; any other opcode is refused.
"""

from __future__ import annotations

import math
import os
import pickletools
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from audiotag.errors import ModelError, printable

if TYPE_CHECKING:
    from tinyonnx.ir import Array

MAX_PICKLE_BYTES = 16 << 20
"""Maximum size of the pickle in a checkpoint, which does not include the tensor data."""

_MAX_RANK = 64
_NESTED_KEYS = ("state_dict", "model_state_dict", "model")

_STORAGES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype("<u2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
_CONTAINER = "collections.OrderedDict"
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_KNOWN = {_CONTAINER, _TENSOR, _PARAMETER, *(f"torch.{name}" for name in _STORAGES)}


class CheckpointError(ModelError):
    """The checkpoint can't be read; the message names the file."""


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read the tensors of a state dict by name, in the order of the file; the arrays are read-only.

    The state dict may be the whole file or its entry `state_dict`, `model_state_dict` or `model`. Tensors
    keep their shape and type, except that bfloat16 becomes float32, exactly; tensors with a common
    storage share memory.

    Raises CheckpointError for anything but a little-endian zip file as written by `torch.save` since
    PyTorch 1.6. Nothing in the file is ever executed.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            _refuse_other_formats(file)
            with zipfile.ZipFile(file) as archive:
                return _State(archive, os.fstat(file.fileno()).st_size).read()
    except _Refusal as error:
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


class _Refusal(Exception):
    """The reason why a checkpoint is refused, without the name of the file."""


def _refuse_other_formats(file: BinaryIO) -> None:
    head = file.read(512)
    file.seek(0)
    if not head:
        raise _Refusal("is empty")
    if head.startswith(b"PK\x03\x04"):
        return
    if head[257:262] == b"ustar" or head[:1] == b"\x80":
        raise _Refusal("is in PyTorch's legacy format; load it there and torch.save it again (PyTorch 1.6 or newer)")
    raise _Refusal("is not a checkpoint: torch.save writes a zip file")


# -- the archive ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Storage:
    """Reference to a flat array in the archive."""

    key: str
    kind: str
    count: int

    @property
    def dtype(self) -> np.dtype[Any]:
        return _STORAGES[self.kind]


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _State:
    """An open checkpoint archive; `unread` bounds the bytes that may still be read."""

    def __init__(self, archive: zipfile.ZipFile, nbytes: int) -> None:
        self.archive = archive
        self.unread = nbytes
        self.entries = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in self.entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise _Refusal(f"is a zip file, but not from torch.save: it has {len(pickles)} files data.pkl")
        self.folder = pickles[0].removesuffix("data.pkl")
        self._arrays: dict[str, tuple[_Storage, Array]] = {}

    def read(self) -> dict[str, Array]:
        if self.folder + "byteorder" in self.entries and self._entry("byteorder", 64).strip() != b"little":
            raise _Refusal("was written on a big-endian machine, which is not supported")
        tree = _run_pickle(self._entry("data.pkl", MAX_PICKLE_BYTES))
        for key in _NESTED_KEYS:
            if isinstance(tree, dict) and isinstance(tree.get(key), dict):
                tree = tree[key]
        if not isinstance(tree, dict):
            raise _Refusal(f"has a {type(tree).__name__.strip('_')} and not a state dict")
        state = {}
        for name, tensor in tree.items():
            if not isinstance(name, str) or not isinstance(tensor, _Tensor):
                raise _Refusal(
                    f"is not a state dict: {str(name)[:99]!r} is a {type(tensor).__name__.strip('_')}, not a tensor"
                )
            state[name] = self._tensor(name, tensor)
        return state

    def _entry(self, name: str, limit: int) -> bytes:
        """Read an entry after checking its size.

        Entries must be uncompressed, and their total size must not exceed that of the file, so that
        they can't overlap.
        """
        info = self.entries.get(self.folder + name)
        if info is None:
            raise _Refusal(f"has no entry {name}")
        if info.compress_type != zipfile.ZIP_STORED:
            raise _Refusal(f"has the compressed entry {name}, which torch.save never writes")
        if info.file_size > limit or info.file_size != info.compress_size:
            raise _Refusal(f"has {info.file_size} bytes in entry {name}, allowed are {limit}")
        self.unread -= info.file_size
        if self.unread < 0:
            raise _Refusal("has entries that overlap")
        return self.archive.read(info)

    def _tensor(self, name: str, tensor: _Tensor) -> Array:
        storage, offset, shape, strides = tensor
        flat = self._storage(storage)
        size = math.prod(shape)
        beyond = _Refusal(f"has a tensor {name[:99]!r} of shape {shape} beyond its storage of {len(flat)} elements")
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

    def _storage(self, storage: _Storage) -> Array:
        known = self._arrays.get(storage.key)
        if known is not None:
            if known[0] != storage:
                raise _Refusal(f"uses the storage {storage.key} with two types or sizes")
            return known[1]
        nbytes = storage.count * storage.dtype.itemsize
        data = self._entry(f"data/{storage.key}", nbytes)
        if len(data) != nbytes:
            raise _Refusal(f"has {len(data)} bytes in storage {storage.key}, its tensors need {nbytes}")
        array: Array = np.frombuffer(data, storage.dtype)
        if storage.kind == "BFloat16Storage":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        elif storage.kind == "BoolStorage":
            array = np.frombuffer(data, np.uint8).astype(np.bool_)
        self._arrays[storage.key] = (storage, array)
        return array


# -- the pickle -------------------------------------------------------------------------


class _Global(NamedTuple):
    name: str


def _run_pickle(data: bytes) -> Any:
    """Interpret the opcodes of a pickle of dicts, lists, tuples, scalars and tensors.

    Time and memory are proportional to the size of the pickle.
    """
    try:
        with warnings.catch_warnings():
            # pickletools decodes obsolete text opcodes before they are refused, and warns of escapes in them
            warnings.simplefilter("ignore", DeprecationWarning)
            return _Machine().run(data)
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise _Refusal(f"has a damaged pickle: {error}") from None


_SCALARS = {
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
    "BINBYTES",
    "SHORT_BINBYTES",
}
_CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """The stack machine of pickle without any opcode that calls a function."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        push, pop = self.stack.append, self.stack.pop
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if name in _SCALARS:
                push(argument)
            elif name in _CONSTANTS:
                push(_CONSTANTS[name])
            elif name in _TUPLES:
                push(tuple(self._pop_from(len(self.stack) - _TUPLES[name])))
            else:
                match name:
                    case "PROTO" | "FRAME":
                        pass
                    case "MARK":
                        self.marks.append(len(self.stack))
                    case "TUPLE":
                        push(tuple(self._pop_mark()))
                    case "EMPTY_LIST":
                        push([])
                    case "EMPTY_DICT":
                        push({})
                    case "APPEND":
                        self._extend([pop()])
                    case "APPENDS":
                        self._extend(self._pop_mark())
                    case "SETITEM":
                        self._update(self._pop_from(len(self.stack) - 2))
                    case "SETITEMS":
                        self._update(self._pop_mark())
                    case "BINPUT" | "LONG_BINPUT":
                        self.memo[_integer(argument)] = self.stack[-1]
                    case "MEMOIZE":
                        self.memo[len(self.memo)] = self.stack[-1]
                    case "BINGET" | "LONG_BINGET":
                        push(self.memo[_integer(argument)])
                    case "GLOBAL" | "INST":
                        push(_global(str(argument).replace(" ", ".")))
                    case "STACK_GLOBAL":
                        push(_global(".".join(self._pop_from(len(self.stack) - 2))))
                    case "BINPERSID":
                        push(_storage(pop()))
                    case "REDUCE":
                        function, arguments = self._pop_from(len(self.stack) - 2)
                        push(_rebuild(function, arguments))
                    case "BUILD":
                        # attributes of an OrderedDict, where torch stores version numbers
                        if not isinstance(pop(), dict) or not isinstance(self.stack[-1], dict):
                            raise _Refusal("is refused: its pickle sets the state of an object other than a dict")
                    case "STOP":
                        return pop()
                    case _:
                        raise _Refusal(f"is refused: its pickle uses {name}, which no state dict needs")
        raise ValueError("it has no end")

    def _pop_from(self, start: int) -> list[Any]:
        if start < (self.marks[-1] if self.marks else 0):
            raise ValueError("its stack is empty")
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _pop_mark(self) -> list[Any]:
        return self._pop_from(self.marks.pop())

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("it appends to an object other than a list")
        self.stack[-1].extend(items)

    def _update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        keys = items[::2]
        # restricted to simple keys because hashing a nested tuple can take exponential time
        if not isinstance(target, dict) or len(items) % 2 or not all(isinstance(k, str | int) for k in keys):
            raise ValueError("it sets items that are not those of a dict with names or numbers as keys")
        target.update(zip(keys, items[1::2], strict=True))


def _global(name: str) -> _Global:
    if name not in _KNOWN:
        raise _Refusal(
            f"is refused: its pickle refers to {name[:99]}, only tensors and containers are read, nothing was run"
        )
    return _Global(name)


def _rebuild(function: Any, arguments: Any) -> Any:
    """Return what calling a known global with these arguments would have created."""
    match function, arguments:
        case _Global(name=name), () if name == _CONTAINER:
            return {}
        case _Global(name=name), (_Tensor() as tensor, *_) if name == _PARAMETER:
            return tensor
        case _Global(name=name), (_Storage() as storage, offset, tuple(shape), tuple(strides), *_) if name == _TENSOR:
            numbers = [_integer(n) for n in (offset, *shape, *strides)]
            if len(shape) != len(strides) or len(shape) > _MAX_RANK or min(numbers) < 0:
                raise ValueError(f"a tensor has {len(shape)} dimensions and {len(strides)} strides, or negative ones")
            return _Tensor(storage, offset, shape, strides)
    called = function.name if isinstance(function, _Global) else f"a {type(function).__name__}"
    raise _Refusal(f"is refused: its pickle calls {called} with other arguments than torch.save writes")


def _storage(reference: Any) -> _Storage:
    """Convert a persistent id of torch, `("storage", class, key, device, number of elements)`."""
    match reference:
        case ("storage", _Global(name=name), str(key), str(), int(count)) if count >= 0:
            kind = name.removeprefix("torch.")
            if kind in _STORAGES:
                return _Storage(key, kind, count)
    raise _Refusal("is refused: its pickle has a persistent id that is not a storage")


def _integer(value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError(f"a {type(value).__name__} stands where a number should")
    return value
