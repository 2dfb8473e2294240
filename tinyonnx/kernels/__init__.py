"""Compiled kernels; importing this registers all of them.

    pointwise       1×1 convolutions
    depthwise       one filter per channel
    expand_depthwise, depthwise_pointwise  two of them in a row
    stem            three of them in a row
    conv            every other convolution
    conv_transpose  and their transposes
    gemm            products with a constant matrix
    matmul          products of two variable matrices
    rows            softmax, normalisation and reductions of the last axes
    gated           squeeze-and-excitation
    pool            windows and global
    elementwise     activations, arithmetic
    unary           exponentials, roots and the like
    broadcast       arithmetic of operands of different shapes
    reshape         copies in row-major order
    move            transposing, cutting, joining, padding
    resize          images of other sizes
    layout          copies between memory orders

Each has the compiled functions and, at its end, the binders that `tinyonnx.registry.fast`
describes.  `_kernel` says what a kernel is, `_tiles` what the fastest are made of, `program`
runs many of them; `_jit` compiles them (the only way to numba) and `_machine` keeps and
loads their machine code.
"""

from __future__ import annotations

from tinyonnx.codegen.kernel import BoundKernel
from tinyonnx.kernels import (  # noqa: F401
    broadcast,
    conv,
    conv_transpose,
    depthwise,
    depthwise_pointwise,
    elementwise,
    expand_depthwise,
    gated,
    gemm,
    matmul,
    move,
    pointwise,
    pool,
    reshape,
    resize,
    rows,
    stem,
    unary,
)
from tinyonnx.kernels.layout import copy_layout

__all__ = ["BoundKernel", "copy_layout"]
