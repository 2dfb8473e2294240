"""The C front end of the executable in this process: its system calls and its model are Python functions."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from audiotag.models.description import efficientat
from audiotag.standalone import registers as reg
from audiotag.standalone.build import SOURCES
from audiotag.standalone.program import TaggerProgram
from audiotag.standalone.source import FOLDER, Facts, front_end_sizes, texts
from tinyonnx.codegen.arguments import encode
from tinyonnx.codegen.kernel import ENTRY
from tinyonnx.ir import Array
from tinyonnx.kernels import BoundKernel
from tinyonnx.native.products import HERE, PROCESS

PARTS = Path(__file__).parent / "c"

_READ = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)
_OPEN = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_char_p)
_CLOSE = ctypes.CFUNCTYPE(None, ctypes.c_int)

PLENTY = 1 << 40
"""Bytes of memory without a limit."""


class _Host(ctypes.Structure):
    _fields_ = [("read", _READ), ("write", _READ), ("open", _OPEN), ("close", _CLOSE), ("memory", ctypes.c_int64)]


def compiler() -> list[str]:
    """Return the command of a C compiler for this machine: the system's, or that of ziglang, which is slower to start.

    Without either the test is skipped.
    """
    found = shutil.which("gcc") or shutil.which("clang")
    if not found:
        pytest.importorskip("ziglang")
    return [found] if found else [sys.executable, "-P", "-m", "ziglang", "cc", "-fno-sanitize=undefined"]


@cache
def _library(generated: tuple[tuple[str, str], ...]) -> ctypes.CDLL:
    """Return the front end with generated files; compiled once for all processes."""
    code = [*SOURCES, PROCESS, PARTS / "parts.c", PARTS / "levels.c"]
    headers = [path for folder in (FOLDER, HERE, PARTS) for path in sorted(folder.glob("*.h"))]
    contents = [path.read_bytes() for path in (*code, *headers)] + [text.encode() for _, text in generated]
    digest = hashlib.sha256(b"\0".join(contents)).hexdigest()[:20]
    built = Path(tempfile.gettempdir()) / f"tinyonnx-front-{os.getuid()}-{digest}.so"
    if not built.exists():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file, text in generated:
                (folder / file).write_text(text, encoding="ascii")
            command = [*compiler(), "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", '-DSYSTEM="host.h"']
            command += [f"-I{path}" for path in (folder, FOLDER, HERE, PARTS)]
            command += map(str, [*code, folder / "facts.c"])
            subprocess.run([*command, "-o", str(folder / "front.so")], check=True)
            shutil.copy(folder / "front.so", built.with_suffix(f".{os.getpid()}"))
            os.replace(built.with_suffix(f".{os.getpid()}"), built)
    return ctypes.CDLL(str(built))


class FrontEnd:
    """The program for a model, run by `run`, and its parts.

    Args:
        facts: description of the model.
        seconds: length of the longest clip or window that is tagged in one piece.
    """

    def __init__(self, facts: Facts | None = None, seconds: int = 20) -> None:
        self.facts = facts or Facts("model", "0" * 64, description=efficientat())
        self.program = TaggerProgram(self.facts.description)
        self.library = _library(tuple(texts(self.facts, seconds).items()))
        self.library.decode_file.restype = ctypes.c_int64
        self.memory, self.needed = PLENTY, 1000
        self.peak = 0
        self._model: Callable[[Array], Array] | None = None
        self._rows = front_end_sizes(self.facts.description, seconds).n_mels
        self._link()

    def _link(self) -> None:
        """Fill the tables of calls and places, as the linker does for the executable."""
        program = self.program
        bound = [BoundKernel(kernel, arguments) for kernel, arguments in program.kernels]
        own = [ENTRY(lambda *_: 0), ENTRY(self._run_model), ENTRY(self._size_model)]
        self._features_cell = np.zeros(2, np.int64)
        arena_cell = np.zeros(2, np.int64)
        entries = [(ctypes.cast(f, ctypes.c_void_p).value, 0) for f in own]
        entries += [(kernel.entry_address, kernel.row_address) for kernel in bound]
        calls = np.array(entries, np.int64)
        cells: dict[str, list[int]] = {"tape": [], "features": []}
        for kernel, (_, arguments) in zip(bound, program.kernels):
            for i, argument in enumerate(arguments):
                for name, found in cells.items():
                    if argument is program.arrays[name]:
                        found.append(kernel.row_address + 8 * len(encode(arguments[:i])))
        cells["features"].insert(0, self._features_cell.ctypes.data)
        places = [(array.ctypes.data, array.nbytes) for array in program.places]
        places += [(0, 0), *((at, 16) for at in [*cells["tape"], *cells["features"], arena_cell.ctypes.data])]
        self._kept = bound, own, calls, np.array(places, np.int64), arena_cell
        self._tables = np.array([calls.ctypes.data, self._kept[3].ctypes.data] * 3, np.int64)

    def _size_model(self, *_: Any) -> int:
        self.program.arrays["integers"][reg.RESULT] = self.needed
        return 0

    def _run_model(self, *_: Any) -> int:
        integers = self.program.arrays["integers"]
        frames = int(integers[reg.FRAMES])
        address, length = self._features_cell.tolist()
        assert length >= frames * self._rows
        features = np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), (frames * self._rows,))
        assert self._model is not None
        self.program.arrays["logits"][:] = self._model(features.reshape(1, self._rows, frames))
        return 0

    def call(
        self, name: str, *arguments: Any, stdin: IO[bytes], write: Callable[[int, bytes], None], piece: int = 1 << 30
    ) -> Any:
        """Call a function of the library with these files; `piece` is the maximum number of bytes per read."""
        files: dict[int, IO[bytes]] = {0: stdin}

        def attempt(function: Callable[[], int]) -> int:
            try:
                return function()
            except OSError as error:
                return -(error.errno or errno.EIO)

        def read(file: int, to: int, size: int) -> int:
            assert size > 0

            def some() -> int:
                data = files[file].read(min(piece, size))
                ctypes.memmove(to, data, len(data))
                return len(data)

            return attempt(some)

        def open_(path: bytes) -> int:
            def some() -> int:
                files[len(files) + 2] = open(path, "rb", buffering=0)  # noqa: SIM115  open until close
                return len(files) + 1

            return attempt(some)

        def write_(file: int, data: int, size: int) -> int:
            return attempt(lambda: write(file, ctypes.string_at(data, size)) or 0)

        host = _Host.in_dll(self.library, "host")
        functions = _READ(read), _READ(write_), _OPEN(open_), _CLOSE(lambda file: files[file].close())
        host.read, host.write, host.open, host.close = functions
        host.memory = self.memory
        levels = (ctypes.c_int64 * 6).in_dll(self.library, "tinyonnx_levels")
        levels[:] = self._tables.tolist()
        return getattr(self.library, name)(*arguments)

    def run(
        self,
        argv: Sequence[bytes],
        model: Callable[[Array], Array],
        stdin: IO[bytes],
        write: Callable[[int, bytes], None],
        piece: int = 1 << 16,
    ) -> int:
        """Run the program like the executable does and return its exit code.

        Args:
            argv: the command line, starting with the name of the program.
            model: maps features (1, mels, frames), or (1, 1, samples), to logits (classes,).
            stdin: standard input.
            write: called with a file descriptor, 1 or 2, and bytes.
            piece: maximum number of bytes per read.
        """
        self._model = model
        arguments = (ctypes.c_char_p * (len(argv) + 1))(*argv)
        environment = (ctypes.c_char_p * 1)()
        code = self.call("run", len(argv), arguments, environment, stdin=stdin, write=write, piece=piece)
        assert isinstance(code, int)
        return code

    def text(self, name: str, *arguments: Any) -> bytes:
        """Return the text that a function of `parts.c` writes."""
        written: list[bytes] = []
        self.call(name, *arguments, stdin=io.BytesIO(), write=lambda file, data: written.append(data))
        return b"".join(written)


@cache
def front_end() -> FrontEnd:
    """Return the front end of the default model's kind, for tests of its parts."""
    return FrontEnd()
