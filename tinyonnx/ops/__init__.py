"""The operators by family; importing this package registers all of them."""

from tinyonnx.ops import activation, math, norm, reduce  # noqa: F401
