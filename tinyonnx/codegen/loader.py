"""Load object files into memory and return the address of a kernel's entry point.

On x86-64 Linux this works without LLVM, whose import takes 40 ms and 40 MiB, more than a small model needs to run.
Kernels are compiled for the large code model, so that everything they refer to is an absolute address: two kinds of
relocation, no tables, no stubs. On other systems LLVM's linker loads them. Source: System V ABI, AMD64 supplement,
chapter 4 (object files).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import struct
import sys
from contextlib import suppress
from typing import Any, NamedTuple

from tinyonnx.codegen.processor import llvm

SYMBOL = "tinyonnx_kernel"
"""Name of the entry point in every object file."""

_loaded: list[Any] = []
"""Owners of loaded machine code, which is never freed."""


def load(code: bytes) -> int:
    """Load an object file into this process; return the address of its entry point. Raises RuntimeError on failure."""
    if sys.platform == "linux" and platform.machine() == "x86_64":
        with suppress(ValueError, OSError):
            address, memory = load_elf(code, SYMBOL)
            _loaded.append(memory)
            return address
    machine = llvm().Target.from_default_triple().create_target_machine(codemodel="jitdefault", jit=True)
    # an engine for each file, because files compiled by different processes may use the same names for inner functions
    engine = llvm().create_mcjit_compiler(llvm().parse_assembly(""), machine)
    engine.add_object_file(llvm().ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = int(engine.get_function_address(SYMBOL))
    if not address:
        raise RuntimeError("the object file has no entry point")
    _loaded.append(engine)
    return address


# -- ELF, x86-64 ------------------------------------------------------------------------

_X86_64, _RELOCATABLE = 62, 1
_SYMBOLS, _RELA, _NOBITS = 2, 4, 8
_WRITE, _ALLOCATE = 1, 2
_UNDEFINED, _COMMON = 0, 0xFFF2


class _ElfSection(NamedTuple):
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry: int


class _Symbol(NamedTuple):
    name: int
    info: int
    other: int
    section: int
    value: int
    size: int


class _Relocation(NamedTuple):
    offset: int
    info: int
    addend: int


def load_elf(code: bytes, symbol: str) -> tuple[int, mmap.mmap]:
    """Load an object file; return the address of a symbol, and the memory, which the caller must keep alive.

    Raises ValueError for an unsupported file, OSError if memory can't be made executable.
    """
    try:
        return _load_elf(code, symbol)
    except (struct.error, IndexError, AttributeError, KeyError, StopIteration) as error:
        raise ValueError(f"the object file can't be loaded: {error}") from None


def _load_elf(code: bytes, symbol: str) -> tuple[int, mmap.mmap]:
    kind, machine = struct.unpack_from("<HH", code, 16)
    if code[:6] != b"\x7fELF\x02\x01" or (kind, machine) != (_RELOCATABLE, _X86_64):
        raise ValueError("not an object file for x86-64")
    (table,) = struct.unpack_from("<Q", code, 40)
    (count,) = struct.unpack_from("<H", code, 60)
    sections = [_ElfSection(*struct.unpack_from("<IIQQQQIIQQ", code, table + 64 * i)) for i in range(count)]

    # read-only and executable sections come first, in pages that lose their permission to be written
    place, end, fixed = {}, 0, 0
    for writable in (0, _WRITE):
        fixed = end = _round_up(end, mmap.PAGESIZE)
        for i, section in enumerate(sections):
            if section.flags & _ALLOCATE and section.flags & _WRITE == writable and section.size:
                end = _round_up(end, max(section.alignment, 1))
                place[i] = end
                end += section.size
    symbols = next(s for s in sections if s.type == _SYMBOLS)
    names = sections[symbols.link].offset
    table_of_symbols = [
        _Symbol(*struct.unpack_from("<IBBHQQ", code, at))
        for at in range(symbols.offset, symbols.offset + symbols.size, 24)
    ]
    common = {}
    for i, entry in enumerate(table_of_symbols):
        if entry.section == _COMMON:
            common[i] = _round_up(end, max(entry.value, 1))
            end = common[i] + entry.size

    memory = mmap.mmap(-1, max(end, 1), prot=mmap.PROT_READ | mmap.PROT_WRITE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for i, start in place.items():
        section = sections[i]
        if section.type != _NOBITS:
            memory[start : start + section.size] = code[section.offset : section.offset + section.size]

    def name_of(entry: _Symbol) -> str:
        start = names + entry.name
        return code[start : code.index(b"\0", start)].decode()

    def address_of(i: int) -> int:
        entry = table_of_symbols[i]
        if entry.section == _UNDEFINED:
            return _system(name_of(entry))
        if entry.section == _COMMON:
            return base + common[i]
        return base + place[entry.section] + entry.value

    for section in sections:
        if section.type != _RELA or section.info not in place:
            continue
        for at in range(section.offset, section.offset + section.size, 24):
            relocation = _Relocation(*struct.unpack_from("<QQq", code, at))
            where = place[section.info] + relocation.offset
            value = address_of(relocation.info >> 32) + relocation.addend
            match relocation.info & 0xFFFFFFFF:
                case 1:  # R_X86_64_64
                    pass
                case 24:  # R_X86_64_PC64
                    value -= base + where
                case other:
                    raise ValueError(f"relocation of kind {other}")
            memory[where : where + 8] = (value & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little")
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    if protect(ctypes.c_void_p(base), ctypes.c_size_t(fixed), mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    found = next(i for i, e in enumerate(table_of_symbols) if name_of(e) == symbol)
    return address_of(found), memory


def _round_up(n: int, step: int) -> int:
    return -(-n // step) * step


def _system(name: str) -> int:
    """Return the address of a function of the C library. Raises AttributeError if it has no such function."""
    for library in (None, "libm.so.6"):
        try:
            function = getattr(ctypes.CDLL(library), name)
        except (OSError, AttributeError):
            continue
        return ctypes.cast(function, ctypes.c_void_p).value or 0
    raise AttributeError(f"the C library has no function {name}")
