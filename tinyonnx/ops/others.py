"""Rarely used operators; importing this module registers them."""

from tinyonnx.ops import (
    attention,  # noqa: F401
    control,  # noqa: F401
    depth_space,  # noqa: F401
    detection,  # noqa: F401
    einsum,  # noqa: F401
    gradient,  # noqa: F401
    linear_attention,  # noqa: F401
    loss,  # noqa: F401
    microsoft,  # noqa: F401
    ml,  # noqa: F401
    quantize,  # noqa: F401
    quantized,  # noqa: F401
    random,  # noqa: F401
    recurrent,  # noqa: F401
    sampling,  # noqa: F401
    sequence,  # noqa: F401
    signal,  # noqa: F401
    text,  # noqa: F401
    training,  # noqa: F401
    vision,  # noqa: F401
)
