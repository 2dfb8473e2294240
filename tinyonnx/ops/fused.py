"""Operators that only our passes create: compositions of public ones in a single step.

The bodies here are the meaning; kernels have to agree with them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops._windows import Ints, Windows
from tinyonnx.ops.conv import conv, conv_shape, conv_windows
from tinyonnx.ops.matmul import gemm, gemm_shape
from tinyonnx.registry import FUSED, Context, Info, lookup, op

_OPSET = 24
"""Opset whose activations are meant."""


def activate(x: Array, activation: str, alpha: float = 0.0, beta: float = 0.0) -> Array:
    """Apply the activation of that name ("": none).

    `alpha` and `beta` are the operator's attributes, for Clip the bounds. Raises OpError.
    """
    attributes: dict[str, Any] = {}
    bounds: list[Array] = []
    match activation:
        case "":
            return x
        case "Relu" | "Sigmoid" | "Tanh" | "HardSwish":
            pass
        case "LeakyRelu" | "Swish":
            attributes = {"alpha": alpha}
        case "HardSigmoid":
            attributes = {"alpha": alpha, "beta": beta}
        case "Clip":
            bounds = [np.array(alpha, x.dtype), np.array(beta, x.dtype)]
        case _:
            raise OpError(f"activation {activation!r} can't be fused")
    result: Array = lookup("", activation, _OPSET).function(x, *bounds, **attributes)
    return result


# -- FusedConv --------------------------------------------------------------------------


def _check_residual(residual: Array | Info, shape: tuple[int, ...]) -> None:
    if residual.shape is not None and tuple(residual.shape) != shape:
        raise OpError(f"residual has shape {list(residual.shape)}, the convolution {list(shape)}")


def fused_conv_shape(
    x: Info,
    w: Info,
    b: Info | None = None,
    residual: Info | None = None,
    *,
    activation: str = "",
    activation_alpha: float = 0.0,
    activation_beta: float = 0.0,
    **attributes: Any,
) -> Info:
    """Shape rule of FusedConv."""
    info = conv_shape(x, w, b, **attributes)
    if residual is not None and info.shape is not None:
        _check_residual(residual, info.shape)
    return info


@op("FusedConv", domain=FUSED, shape=fused_conv_shape)
def fused_conv(
    ctx: Context | None,
    x: Array,
    w: Array,
    b: Array | None = None,
    residual: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
    activation: str = "",
    activation_alpha: float = 0.0,
    activation_beta: float = 0.0,
) -> Array:
    """activation(Conv(x, w, b) + residual); the residual has the shape of the result."""
    y = conv(
        ctx,
        x,
        w,
        b,
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )
    if residual is not None:
        _check_residual(residual, y.shape)
        with np.errstate(all="ignore"):
            y = y + residual
    return activate(y, activation, activation_alpha, activation_beta)


# -- FusedGemm --------------------------------------------------------------------------


def fused_gemm_shape(
    a: Info,
    b: Info,
    c: Info | None = None,
    *,
    activation: str = "",
    activation_alpha: float = 0.0,
    activation_beta: float = 0.0,
    **attributes: Any,
) -> Info:
    """Shape rule of FusedGemm."""
    return gemm_shape(a, b, c, **attributes)


@op("FusedGemm", domain=FUSED, shape=fused_gemm_shape)
def fused_gemm(
    a: Array,
    b: Array,
    c: Array | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    activation: str = "",
    activation_alpha: float = 0.0,
    activation_beta: float = 0.0,
) -> Array:
    """activation(Gemm(a, b, c))."""
    y = gemm(a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB)
    return activate(y, activation, activation_alpha, activation_beta)


# -- ExpandDepthwise --------------------------------------------------------------------


def depthwise_windows(x: Array | Info, w: Array | Info, taps: Array | Info, **attributes: Any) -> Windows:
    """The windows of the depthwise convolution on the expanded image. Raises OpError."""
    return conv_windows(_expanded(x, w), taps, **attributes, group=w.shape[0] if w.shape is not None else 1)


def _expanded(x: Array | Info, w: Array | Info) -> Info:
    return conv_shape(Info(x.dtype, x.shape), Info(w.dtype, w.shape))


def expand_depthwise_shape(
    x: Info,
    w: Info,
    b: Info | None,
    taps: Info,
    taps_b: Info | None = None,
    *,
    activation: str = "",
    activation_alpha: float = 0.0,
    activation_beta: float = 0.0,
    expand_activation: str = "",
    expand_activation_alpha: float = 0.0,
    expand_activation_beta: float = 0.0,
    **attributes: Any,
) -> list[Info]:
    """Shape rule of ExpandDepthwise."""
    wide = conv_shape(x, w, b)
    y = conv_shape(wide, taps, taps_b, group=1 if w.shape is None else w.shape[0], **attributes)
    return [y, Info(y.dtype, None if y.shape is None else (*y.shape[:-1], 1))]


@op("ExpandDepthwise", domain=FUSED, shape=expand_depthwise_shape)
def expand_depthwise(
    ctx: Context | None,
    x: Array,
    w: Array,
    b: Array | None,
    taps: Array,
    taps_b: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints | None = None,
    kernel_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
    activation: str = "",
    activation_alpha: float = 0.0,
    activation_beta: float = 0.0,
    expand_activation: str = "",
    expand_activation_alpha: float = 0.0,
    expand_activation_beta: float = 0.0,
) -> Array | tuple[Array, Array]:
    """Two FusedConvs in a row: 1×1 with `w` [E, C, 1, 1], then depthwise with `taps` [E, 1, *kernel].

    A second output is the mean of every row of the result, [N, E, H, 1].
    """
    wide = fused_conv(
        ctx,
        x,
        w,
        b,
        activation=expand_activation,
        activation_alpha=expand_activation_alpha,
        activation_beta=expand_activation_beta,
    )
    y = fused_conv(
        ctx,
        wide,
        taps,
        taps_b,
        auto_pad=auto_pad,
        dilations=dilations,
        group=len(w),
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
        activation=activation,
        activation_alpha=activation_alpha,
        activation_beta=activation_beta,
    )
    return (y, y.mean(axis=-1, keepdims=True)) if ctx is not None and ctx.n_outputs > 1 else y


# -- DepthwisePointwise -----------------------------------------------------------------


def depthwise_pointwise_shape(
    x: Info,
    taps: Info,
    taps_b: Info | None,
    w: Info,
    b: Info | None = None,
    residual: Info | None = None,
    *,
    activation: str = "",
    activation_alpha: float = 0.0,
    activation_beta: float = 0.0,
    depthwise_activation: str = "",
    depthwise_activation_alpha: float = 0.0,
    depthwise_activation_beta: float = 0.0,
    **attributes: Any,
) -> Info:
    """Shape rule of DepthwisePointwise."""
    middle = conv_shape(x, taps, taps_b, group=1 if taps.shape is None else taps.shape[0], **attributes)
    return fused_conv_shape(middle, w, b, residual)


@op("DepthwisePointwise", domain=FUSED, shape=depthwise_pointwise_shape)
def depthwise_pointwise(
    ctx: Context | None,
    x: Array,
    taps: Array,
    taps_b: Array | None,
    w: Array,
    b: Array | None = None,
    residual: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints | None = None,
    kernel_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
    activation: str = "",
    activation_alpha: float = 0.0,
    activation_beta: float = 0.0,
    depthwise_activation: str = "",
    depthwise_activation_alpha: float = 0.0,
    depthwise_activation_beta: float = 0.0,
) -> Array:
    """Two FusedConvs in a row: depthwise with `taps` [C, 1, *kernel], then 1×1 with `w` [N, C, 1, 1] and residual."""
    middle = fused_conv(
        ctx,
        x,
        taps,
        taps_b,
        auto_pad=auto_pad,
        dilations=dilations,
        group=len(taps),
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
        activation=depthwise_activation,
        activation_alpha=depthwise_activation_alpha,
        activation_beta=depthwise_activation_beta,
    )
    return fused_conv(
        ctx,
        middle,
        w,
        b,
        residual,
        activation=activation,
        activation_alpha=activation_alpha,
        activation_beta=activation_beta,
    )
