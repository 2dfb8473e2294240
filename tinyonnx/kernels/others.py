"""Kernels of rarely used operators, those in `tinyonnx.ops.others`; importing this module registers them."""

from tinyonnx.kernels import (
    blocks,  # noqa: F401
    detection,  # noqa: F401
    quantize,  # noqa: F401
    quantized_conv_layers,  # noqa: F401
    quantized_elementwise,  # noqa: F401
    quantized_matmul,  # noqa: F401
    quantized_recurrent,  # noqa: F401
    recurrent_layers,  # noqa: F401
    trees,  # noqa: F401
)
