"""Compile Python functions to machine code and cache it; independent of operators.

| module | contents |
|---|---|
| `kernel` | decorators `jit` and `kernel`, kernels bound to arguments |
| `arguments` | kinds of arguments, records, specialisation constants, the row of integers |
| `primitives` | tile sizes, records of register tiles, their meaning in numpy |
| `compiler` | numba and LLVM: a kernel to an object file |
| `emit_tiles`, `emit_atomics`, `emitter` | LLVM code of the primitives, of atomic operations, of vectors |
| `processor` | the CPU that code is compiled for |
| `code_cache` | object files on disk: keys, locks, lookup |
| `parallel` | several kernels compiled by as many processes |
| `loader` | object files into memory |
"""
