"""Models as native code: the engine's kernels and weights, linked into a shared library or an executable.

A plan whose steps are all kernels needs no Python: its calls are rows of integers, its kernels
object files, its weights bytes. For each CPU level (x86-64-v2, -v3, -v4) a process of its own
lays all of this out, because kernels and packing depend on the width of vectors, and the
linker of the `ziglang` package joins the three with a page of C that chooses one at start.

    unit        `UnitLayout`: calls and arrays of one level, made into a `Unit` of plain data
    model       the calls of a model for given shapes
    sized       the calls of a model for any size of one axis
    kernels     kernels that a binary needs besides those of the model
    levels      a unit for each level, each made in a process of its own
    binary      the units as sections of one file; weights are stored once
    header      the C declarations of a library
    toolchain   the C compiler and the linker
    products    library with header, executable
    *.c, *.h    entry points: choice of the level, system calls

A `UnitLayout` holds calls of kernels (`tinyonnx.codegen.kernel`), each called with part 0 of 1. Their arguments are
integers, floats and flat arrays. An array outside the memory that was mapped with `UnitLayout.map` is a constant and
stored by its content; memory is zero when the program starts. Kernels may call `memset` and `memcpy`; other
functions of C's library that they call (powf, logf) are linked from musl.
"""
