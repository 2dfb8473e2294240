"""The operators by family; importing this package registers all of them."""

from tinyonnx.ops import activation, conv, depth_space, fused, math, matmul, norm, pool, reduce, resize  # noqa: F401
