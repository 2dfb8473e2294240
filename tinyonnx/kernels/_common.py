"""What the binders share: flat views, reasons to refuse, the epilogue's codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.codegen.primitives import CLIP, HARD_SWISH, LINEAR, POSTPONED
from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops._windows import Windows
from tinyonnx.ops.conv import ConvAttributes, conv_windows
from tinyonnx.ops.fused import Activation
from tinyonnx.registry import Info
from tinyonnx.runtime.arena import allocate_lasting, channels_innermost
from tinyonnx.sizes.arrays import temporary_memory
from tinyonnx.sizes.expressions import is_size

Epilogue = tuple[int, int, Any, Any]
"""Whether a residual is added, then the activation: code, alpha, beta (float32)."""

Taps = tuple[int, int, int, int, int, int]

Shape = tuple[int, int, int, int]
"""Of an image: batch, height, width, channels."""

HARD_SIGMOID, SIGMOID, TANH, LEAKY_RELU, SWISH = range(POSTPONED, POSTPONED + 5)

_CODES = {
    "": LINEAR,
    "Relu": CLIP,
    "Clip": CLIP,
    "HardSwish": HARD_SWISH,
    "HardSigmoid": HARD_SIGMOID,
    "Sigmoid": SIGMOID,
    "Tanh": TANH,
    "LeakyRelu": LEAKY_RELU,
    "Swish": SWISH,
}


def epilogue_of(activation: Activation, residual: bool = False) -> Epilogue:
    """The codes of an activation, after the sum with a residual if there is one."""
    alpha, beta = (0.0, float("inf")) if activation.name == "Relu" else (activation.alpha, activation.beta)
    return int(residual), _CODES[activation.name], np.float32(alpha), np.float32(beta)


NO_EPILOGUE = epilogue_of(Activation())
"""The epilogue that leaves sums as they are."""


def activation_refused(activation: Activation) -> str | None:
    """Why an activation can't be fused, or None."""
    return None if activation.name in _CODES else f"activation {activation.name!r}"


def float32_refused(*infos: Info | None) -> str | None:
    """Refuse unless everything is float32."""
    other = next((i.dtype for i in infos if i is not None and i.dtype != np.float32), None)
    return None if other is None else f"{other}, not float32"


def flat(x: Array) -> Array:
    """A row-major or channels-last array as the 1-D array of its memory."""
    if not x.flags.c_contiguous:
        x = channels_innermost(x)
    assert x.flags.c_contiguous, "array in an unexpected memory order"
    return x.reshape(-1)


def zeros(size: int) -> Array:
    """Flat float32 zeros that start with a cache line, for weights."""
    result: Array = allocate_lasting(size * 4).view(np.float32)
    result[...] = 0
    return result


class Temporary(np.ndarray[Any, Any]):
    """Memory between the kernels of one step: of their arrays outside the arena the only ones that are written."""


def temporary(size: int) -> Array:
    """Uninitialised float32 for the kernels of a step."""
    if is_size(size):
        memory: Array = temporary_memory(size, np.dtype(np.float32))
        return memory
    return np.empty(size, np.float32).view(Temporary)


def image(x: Array) -> tuple[Array, Shape]:
    """A channels-last activation of rank 3 or 4: its memory, and (batch, height, width, channels)."""
    pixels = channels_innermost(x)
    assert pixels.flags.c_contiguous, "activation is not channels-last"
    height = x.shape[2] if x.ndim == 4 else 1
    return pixels.reshape(-1), (x.shape[0], height, x.shape[-1], x.shape[1])


Geometry = tuple[int, int, int, int, int, int, int, int]


def geometry_of(w: Windows) -> Geometry:
    """Kernel, strides, dilations and leading pads, each (vertical, horizontal); one axis means a single row."""
    if len(w.kernel) == 1:
        return 1, w.kernel[0], 1, w.strides[0], 1, w.dilations[0], 0, w.begin[0]
    return (*w.kernel, *w.strides, *w.dilations, *w.begin)  # type: ignore[return-value]


_MAX_GEOMETRY = 1 << 31


def geometry_refused(w: Windows) -> str | None:
    """Refuse steps so large that positions might overflow; numpy has no limit there."""
    wrong = next((n for numbers in w for n in numbers if abs(n) >= _MAX_GEOMETRY), None)
    return None if wrong is None else f"a stride, dilation or pad of {abs(wrong)}"


def conv_refused(
    out: Info, x: Info | None, w: Info | None, b: Info | None = None, residual: Info | None = None, *,
    geometry: ConvAttributes, activation: Activation = Activation(),
) -> str | None:  # fmt: skip
    """Refuse what no kernel for convolutions can take."""
    if x is None or w is None or w.value is None or (b is not None and b.value is None):
        return "weights are not constant"
    if x.value is not None:
        return "the input is constant"
    if residual is not None and (residual.value is not None or residual.shape != out.shape):
        return "the residual is constant or of another shape"
    if x.shape is None or len(x.shape) not in (3, 4):
        return "not one or two spatial axes"
    try:
        windows = conv_windows(x, w, b, geometry=geometry)
    except OpError as error:
        return str(error)
    return geometry_refused(windows) or activation_refused(activation) or float32_refused(out, x, w, b, residual)


def is_depthwise(x: Info | None, w: Info | None, group: int) -> bool:
    """Whether a convolution has one filter for each of several channels."""
    if x is None or w is None or x.shape is None or w.shape is None:
        return False
    return len(x.shape) > 2 and len(w.shape) > 2 and 1 < group == x.shape[1] == w.shape[0]
