"""Argument records, flat views, reasons for refusals and epilogues, shared by all binders."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinyonnx.codegen.primitives import CLIP, HARD_SWISH, LINEAR, POSTPONED, Epilogue
from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops._windows import Windows
from tinyonnx.ops.conv import ConvAttributes, conv_windows
from tinyonnx.ops.fused import Activation
from tinyonnx.registry import Info
from tinyonnx.runtime.arena import allocate_lasting, channels_innermost
from tinyonnx.sizes.arrays import temporary_memory
from tinyonnx.sizes.integers import is_size


class Layer(NamedTuple):
    """The constants of a matrix product: packed weights, packed bias and epilogue."""

    data: Array
    bias: Array
    epilogue: Epilogue


class Geometry(NamedTuple):
    """Kernel, strides, dilations and leading pads of windows, each as (vertical, horizontal)."""

    k_h: int
    k_w: int
    s_h: int
    s_w: int
    d_h: int
    d_w: int
    p_h: int
    p_w: int


class Convolution(NamedTuple):
    """The constants of a convolution: packed weights, packed bias, epilogue and geometry."""

    data: Array
    bias: Array
    epilogue: Epilogue
    geometry: Geometry


class Image(NamedTuple):
    """A channels-last image [batch, height, width, channels]: its memory and its shape."""

    data: Array
    batch: int
    height: int
    width: int
    channels: int


class Product(NamedTuple):
    """The sizes of a matrix product [m, k] · [k, n]."""

    m: int
    k: int
    n: int


HARD_SIGMOID, SIGMOID, TANH, LEAKY_RELU, SWISH, GELU, FAST_GELU = range(POSTPONED, POSTPONED + 7)

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
    "Gelu": GELU,
    "FastGelu": FAST_GELU,
}


def epilogue_of(activation: Activation, residual: bool = False) -> Epilogue:
    """Return the epilogue of an activation; it adds the residual first if there is one."""
    alpha, beta = (0.0, float("inf")) if activation.name == "Relu" else (activation.alpha, activation.beta)
    return Epilogue(int(residual), _CODES[activation.name], np.float32(alpha), np.float32(beta))


NO_EPILOGUE = epilogue_of(Activation())
"""The epilogue that leaves sums unchanged."""


def activation_refused(activation: Activation) -> str | None:
    """Refuse an activation that epilogues don't support."""
    return None if activation.name in _CODES else f"activation {activation.name!r}"


def float32_refused(*infos: Info | None) -> str | None:
    """Refuse tensors of other types than float32."""
    other = next((i.dtype for i in infos if i is not None and i.dtype != np.float32), None)
    return None if other is None else f"{other}, not float32"


def flat(x: Array) -> Array:
    """Return the memory of a row-major or channels-last array as a 1-D array."""
    if not x.flags.c_contiguous:
        x = channels_innermost(x)
    assert x.flags.c_contiguous, "array in an unexpected memory order"
    return x.reshape(-1)


def zeros(size: int) -> Array:
    """Return a 1-D array of float32 zeros that starts at a cache line, for weights."""
    result: Array = allocate_lasting(size * 4).view(np.float32)
    result[...] = 0
    return result


class Temporary(np.ndarray[Any, Any]):
    """Memory that passes values between the kernels of one step; kernels write to no other array outside the arena."""


def temporary(size: int, dtype: Any = np.float32) -> Array:
    """Reserve uninitialised memory of `size` elements for the kernels of a step."""
    if is_size(size):
        memory: Array = temporary_memory(size, np.dtype(dtype))
        return memory
    return np.empty(size, dtype).view(Temporary)


def image(x: Array) -> Image:
    """Describe a channels-last activation of rank 4, or of rank 3 (a single row)."""
    pixels = channels_innermost(x)
    assert pixels.flags.c_contiguous, "activation is not channels-last"
    height = x.shape[2] if x.ndim == 4 else 1
    return Image(pixels.reshape(-1), x.shape[0], height, x.shape[-1], x.shape[1])


def memory_or(x: Array | None, default: Array) -> Array:
    """Return the memory of a channels-last activation, or `default` if it is absent."""
    return default if x is None else image(x).data


def geometry_of(w: Windows) -> Geometry:
    """Describe windows over two axes, or over one (a single row)."""
    if len(w.kernel) == 1:
        return Geometry(1, w.kernel[0], 1, w.strides[0], 1, w.dilations[0], 0, w.begin[0])
    return Geometry(*w.kernel, *w.strides, *w.dilations, *w.begin)


_MAX_GEOMETRY = 1 << 31


def geometry_refused(w: Windows) -> str | None:
    """Refuse strides, dilations and pads so large that computed positions might overflow an int64."""
    wrong = next((n for numbers in w for n in numbers if abs(n) >= _MAX_GEOMETRY), None)
    return None if wrong is None else f"a stride, dilation or pad of {abs(wrong)}"


def conv_refused(
    out: Info, x: Info | None, w: Info | None, b: Info | None = None, residual: Info | None = None, *,
    geometry: ConvAttributes, activation: Activation = Activation(),
) -> str | None:  # fmt: skip
    """Refuse convolutions that no kernel supports."""
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
    """Return whether a convolution has one filter for each of several channels."""
    if x is None or w is None or x.shape is None or w.shape is None:
        return False
    return len(x.shape) > 2 and len(w.shape) > 2 and 1 < group == x.shape[1] == w.shape[0]
