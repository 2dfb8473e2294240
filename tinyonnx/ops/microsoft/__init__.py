"""Operators of ONNX Runtime's own domain, com.microsoft; importing this package registers them."""

from tinyonnx.ops.microsoft import attention, blocks, fused, matmul, norm, quantized, recurrent  # noqa: F401
