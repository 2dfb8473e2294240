"""Operators of ONNX Runtime's own domain, com.microsoft; importing this package registers them."""

from tinyonnx.ops.microsoft import (  # noqa: F401
    attention,
    blocks,
    fused,
    grouped_attention,
    matmul,
    norm,
    quantized,
    recurrent,
)
