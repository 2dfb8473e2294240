"""Assembly text of data for each object format: sections, labels, addresses, zeros."""

from __future__ import annotations

from collections.abc import Sequence


class Elf:
    """The GNU assembler's directives for ELF; the other formats inherit the directives that they share."""

    prefix = ""
    """Prefix of C names."""

    constants = '.section .rodata,"a"'
    """Section of read-only data without addresses."""

    pointers = '.section .data.rel.ro,"aw"'
    """Section of read-only data with addresses."""

    data = '.section .data,"aw"'
    """Section of writable data."""

    def begin(self, name: str) -> list[str]:
        """Return the label at the start of data."""
        return [f"{self.prefix}{name}:"]

    def end(self, name: str) -> list[str]:
        """Return the lines that end the data of a label."""
        return []

    def zeros(self, name: str, size: int) -> list[str]:
        """Return the lines that reserve memory, zero at start and aligned to pages."""
        return [".bss", ".p2align 12", *self.begin(name), f".skip {size}", *self.end(name)]

    def address(self, name: str, offset: int = 0) -> str:
        """Return a cell of eight bytes with an address."""
        return f".quad {self.prefix}{name}+{offset}"

    def visible(self, name: str) -> list[str]:
        """Make a label known to other files of the same binary, and to no one else."""
        return [f".globl {self.prefix}{name}", f".hidden {self.prefix}{name}"]

    def function(self, name: str) -> list[str]:
        """Declare the entry point of a kernel, defined in another file."""
        return []

    def cells(self, cells: Sequence[int | tuple[str, int]]) -> list[str]:
        """Format numbers, and addresses given as label and offset, as cells of eight bytes."""
        return [f".quad {cell}" if isinstance(cell, int) else self.address(*cell) for cell in cells]


class Coff(Elf):
    """Windows."""

    constants = pointers = '.section .rdata,"dr"'
    data = '.section .data,"dw"'

    def visible(self, name: str) -> list[str]:
        return [f".globl {name}"]


class MachO(Elf):
    """macOS."""

    prefix = "_"
    constants, pointers, data = ".section __TEXT,__const", ".section __DATA,__const", ".section __DATA,__data"

    def zeros(self, name: str, size: int) -> list[str]:
        return [f".zerofill __DATA,__bss,_{name},{size},12"]

    def visible(self, name: str) -> list[str]:
        return [f".globl _{name}", f".private_extern _{name}"]


class Wasm(Elf):
    """WebAssembly: addresses have four bytes, symbols a type and a size."""

    constants, pointers, data = (f'.section .{name}.tinyonnx,"",@' for name in ("rodata", "data.rel.ro", "data"))

    def begin(self, name: str) -> list[str]:
        return [f".type {name},@object", f"{name}:"]

    def end(self, name: str) -> list[str]:
        return [f".Lend_{name}:", f".size {name}, .Lend_{name}-{name}"]

    def zeros(self, name: str, size: int) -> list[str]:
        lines = ['.section .bss.tinyonnx,"",@', ".p2align 12", *self.begin(name), f".skip {size}"]
        return [*lines, f".size {name}, {size}"]

    def address(self, name: str, offset: int = 0) -> str:
        return f".int32 {name}+{offset}\n.int32 0"

    def function(self, name: str) -> list[str]:
        return [f".functype {name} (i32, i32, i32, i64, i64) -> (i32)"]


DIALECTS: dict[str, Elf] = {"elf": Elf(), "coff": Coff(), "macho": MachO(), "wasm": Wasm()}
"""Dialects by the names of object formats in the table of targets."""
