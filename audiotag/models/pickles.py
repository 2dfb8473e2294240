"""Interpreter for pickles of tensors that calls no functions.

A pickle is a program that may call any function. Here its opcodes are interpreted by a machine that supports
containers, numbers, text and tensors only; any other opcode is refused.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np

_MAX_RANK = 64

STORAGES: dict[str, np.dtype[Any]] = {
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
"""Data types by the names of torch's storages; bfloat16 as its bits."""

_CONTAINER = "collections.OrderedDict"
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_NUMPY = {
    "_codecs.encode",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
}
"""Globals that pickled numpy arrays and numbers refer to; such objects are skipped, see `Skipped`."""

_KNOWN = {_CONTAINER, _TENSOR, _PARAMETER, *_NUMPY, *(f"torch.{name}" for name in STORAGES)}


class Refusal(Exception):
    """The reason why a checkpoint is refused, without the name of the file."""


@dataclass(frozen=True)
class Storage:
    """Reference to a flat array outside the pickle."""

    key: str
    kind: str
    count: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the elements."""
        return STORAGES[self.kind]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.count * self.dtype.itemsize


class StoredTensor(NamedTuple):
    """Reference to a part of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Skipped:
    """Placeholder for a numpy array or number, such as a best score or the state of a sampler, that is not read."""


class _Global(NamedTuple):
    name: str


def run_pickle(data: bytes | BinaryIO, storages: dict[str, Storage] | None = None) -> Any:
    """Interpret the opcodes of a pickle of dicts, lists, tuples, scalars and tensors.

    A file is read up to the end of the pickle. Storages that it refers to are added to `storages`. Time and memory are
    proportional to the size of the pickle. Raises Refusal.
    """
    try:
        with warnings.catch_warnings():
            # pickletools decodes obsolete text opcodes before they are refused, and warns of escapes in them
            warnings.simplefilter("ignore", DeprecationWarning)
            return _Machine({} if storages is None else storages).run(data)
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refusal(f"has a damaged pickle: {error}") from None


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

    def __init__(self, storages: dict[str, Storage]) -> None:
        self.storages = storages
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes | BinaryIO) -> Any:
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
                        push(self._known(_storage(pop())))
                    case "REDUCE":
                        function, arguments = self._pop_from(len(self.stack) - 2)
                        push(_rebuild(function, arguments))
                    case "BUILD":
                        # attributes of an OrderedDict, where torch stores version numbers
                        state, target = pop(), self.stack[-1]
                        if not isinstance(target, Skipped) and not (
                            isinstance(state, dict) and isinstance(target, dict)
                        ):
                            raise Refusal("is refused: its pickle sets the state of an object other than a dict")
                    case "STOP":
                        return pop()
                    case _:
                        raise Refusal(f"is refused: its pickle uses {name}, which no state dict needs")
        raise ValueError("it has no end")

    def _known(self, storage: Storage) -> Storage:
        """Return `storage`; raise Refusal if its key has another type or size elsewhere."""
        if self.storages.setdefault(storage.key, storage) != storage:
            raise Refusal(f"uses the storage {storage.key} with two types or sizes")
        return storage

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
        raise Refusal(
            f"is refused: its pickle refers to {name[:99]}; only tensors and containers are read, and nothing was run"
        )
    return _Global(name)


def _rebuild(function: Any, arguments: Any) -> Any:
    """Return the object that a call of a known global with these arguments would have created."""
    match function, arguments:
        case _Global(name=name), () if name == _CONTAINER:
            return {}
        case _Global(name=name), tuple() if name in _NUMPY:
            return Skipped()
        case _Global(name=name), (StoredTensor() as tensor, *_) if name == _PARAMETER:
            return tensor
        case _Global(name=name), (Storage() as storage, offset, tuple(shape), tuple(strides), *_) if name == _TENSOR:
            numbers = [_integer(n) for n in (offset, *shape, *strides)]
            if len(shape) != len(strides) or len(shape) > _MAX_RANK or min(numbers) < 0:
                raise ValueError(f"a tensor has {len(shape)} dimensions and {len(strides)} strides, or negative ones")
            return StoredTensor(storage, offset, shape, strides)
    called = function.name if isinstance(function, _Global) else f"a {type(function).__name__}"
    raise Refusal(f"is refused: its pickle calls {called} with other arguments than torch.save writes")


def _storage(reference: Any) -> Storage:
    """Convert a persistent id of torch, `("storage", class, key, device, number of elements)`.

    In legacy files the number of elements is followed by the place in another storage, which is None here.
    """
    match reference:
        case ("storage", _Global(name=name), str(key), str(), int(count), *rest) if count >= 0 and rest in ([], [None]):
            kind = name.removeprefix("torch.")
            if kind in STORAGES:
                return Storage(key, kind, count)
    raise Refusal("is refused: its pickle has a persistent id that is not a storage")


def _integer(value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError(f"a {type(value).__name__} stands where a number should")
    return value
