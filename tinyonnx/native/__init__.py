"""Models as native code: what the engine runs, linked into a shared library or an executable.

A plan whose steps are all kernels needs no Python: its calls are rows of integers, its kernels
object files, its weights bytes. For each CPU level (x86-64-v2, -v3, -v4) a process of its own
lays all of this out, because kernels and packing depend on the width of vectors, and the
linker of the `ziglang` package joins the three with a page of C that chooses one at start.

    unit        `Layout`: calls and arrays of one level, made into a `Unit` of plain data
    model       the calls of a model: for given shapes, or for any size of one axis
    levels      a unit for each level, in processes of their own
    binary      three units become the sections of one file; weights are there once
    toolchain   the C compiler and the linker
    products    library with header, executable
    *.c         entry points: choice of the level, system calls

What is laid out are calls of kernels, made by `tinyonnx.kernel` and called with part 0 of 1.
Their arguments are integers, floats and flat arrays. An array outside the memory that `Layout`
was told of is a constant, of which the content counts; memory is zero when the program
starts. Kernels may call `memset` and `memcpy`; what else of C's library they call (powf, logf)
is linked from musl.
"""
