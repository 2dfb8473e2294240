"""Compiled kernels; importing this registers all of them.

    pointwise       1×1 convolutions
    depthwise       one filter per channel
    conv            every other convolution
    gemm            products with a constant matrix
    squeeze_excite  the block of MobileNetV3 and EfficientNet
    pool            windows and global
    elementwise     activations, arithmetic
    reshape         copies in row-major order

Each has the compiled function, on flat float32 arrays and integers, and at its end the
binder that `tinyonnx.registry.fast` describes.  `_jit` is the only way to numba.
"""

from __future__ import annotations

from tinyonnx.kernels import (  # noqa: F401
    conv,
    depthwise,
    elementwise,
    gemm,
    pointwise,
    pool,
    reshape,
    squeeze_excite,
)
