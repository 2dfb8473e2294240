"""Operators that only the passes create: compositions of standard ones in a single step.

The bodies here define the meaning; kernels must agree with them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops._windows import Windows
from tinyonnx.ops.activation import gelu
from tinyonnx.ops.conv import ConvAttributes, conv, conv_shape, conv_windows
from tinyonnx.ops.matmul import GemmAttributes, gemm, gemm_shape, matmul, matmul_shape
from tinyonnx.registry import FUSED, Attributes, Context, Info, lookup, op

_OPSET = 24
"""The opset whose activations are applied."""


class Activation(Attributes):
    """An activation within another operator: its name ("": none) and its attributes, for Clip the bounds.

    FastGelu is Gelu's approximation by tanh. An operator that calls it `gate` has the attributes `gate`, `gate_alpha`
    and `gate_beta`.
    """

    name: str = ""
    alpha: float = 0.0
    beta: float = 0.0

    @classmethod
    def attribute_name(cls, parameter: str, field: str) -> str:
        """Return the ONNX attribute that holds a field."""
        return parameter if field == "name" else f"{parameter}_{field}"


def activate(x: Array, activation: Activation) -> Array:
    """Apply an activation. Raises OpError if it can't be fused."""
    attributes: dict[str, Any] = {}
    bounds: list[Array] = []
    match activation.name:
        case "":
            return x
        case "Relu" | "Sigmoid" | "Tanh" | "HardSwish" | "Gelu":
            pass
        case "FastGelu":
            return gelu(x, approximate="tanh")
        case "LeakyRelu" | "Swish":
            attributes = {"alpha": activation.alpha}
        case "HardSigmoid":
            attributes = {"alpha": activation.alpha, "beta": activation.beta}
        case "Clip":
            bounds = [np.array(activation.alpha, x.dtype), np.array(activation.beta, x.dtype)]
        case _:
            raise OpError(f"activation {activation.name!r} can't be fused")
    result: Array = lookup("", activation.name, _OPSET).function(x, *bounds, **attributes)
    return result


# -- FusedConv --------------------------------------------------------------------------


def _check_residual(residual: Array | Info, shape: tuple[int, ...]) -> None:
    if residual.shape is not None and tuple(residual.shape) != shape:
        raise OpError(f"residual has shape {list(residual.shape)}, the product {list(shape)}")


def fused_conv_shape(
    x: Info, w: Info, b: Info | None = None, residual: Info | None = None, *,
    geometry: ConvAttributes = ConvAttributes(), activation: Activation = Activation(),
) -> Info:  # fmt: skip
    """Infer the output shape of FusedConv."""
    info = conv_shape(x, w, b, geometry=geometry)
    if residual is not None and info.shape is not None:
        _check_residual(residual, info.shape)
    return info


@op("FusedConv", domain=FUSED, shape=fused_conv_shape)
def fused_conv(
    ctx: Context | None, x: Array, w: Array, b: Array | None = None, residual: Array | None = None, *,
    geometry: ConvAttributes = ConvAttributes(), activation: Activation = Activation(),
) -> Array:  # fmt: skip
    """Compute activation(Conv(x, w, b) + residual); the residual has the shape of the result."""
    y = conv(ctx, x, w, b, geometry=geometry)
    if residual is not None:
        _check_residual(residual, y.shape)
        with np.errstate(all="ignore"):
            y = y + residual
    return activate(y, activation)


# -- FusedGemm --------------------------------------------------------------------------


def fused_gemm_shape(
    a: Info, b: Info, c: Info | None = None, *, product: GemmAttributes, activation: Activation
) -> Info:
    """Infer the output shape of FusedGemm."""
    return gemm_shape(a, b, c, product=product)


@op("FusedGemm", domain=FUSED, shape=fused_gemm_shape)
def fused_gemm(
    a: Array, b: Array, c: Array | None = None, *, product: GemmAttributes = GemmAttributes(),
    activation: Activation = Activation(),
) -> Array:  # fmt: skip
    """Compute activation(Gemm(a, b, c))."""
    return activate(gemm(a, b, c, product=product), activation)


# -- Linear -----------------------------------------------------------------------------


def linear_shape(
    x: Info, w: Info, b: Info | None = None, residual: Info | None = None, *, activation: Activation = Activation()
) -> Info:
    """Infer the output shape of Linear."""
    info = matmul_shape(x, w)
    if info.shape is not None and b is not None and b.shape is not None and b.shape != info.shape[-1:]:
        raise OpError(f"the bias has shape {list(b.shape)}, the product {list(info.shape)}")
    if residual is not None and info.shape is not None:
        _check_residual(residual, info.shape)
    return info


@op("Linear", domain=FUSED, shape=linear_shape)
def linear(
    x: Array, w: Array, b: Array | None = None, residual: Array | None = None, *, activation: Activation = Activation()
) -> Array:
    """Compute activation(MatMul(x, w) + b + residual) with a matrix `w` [k, n] and `b` [n]."""
    y = matmul(x, w)
    with np.errstate(all="ignore"):
        if b is not None:
            y = y + b
        if residual is not None:
            _check_residual(residual, y.shape)
            y = y + residual
    return activate(y, activation)


# -- ExpandDepthwise --------------------------------------------------------------------


def depthwise_windows(x: Array | Info, w: Array | Info, taps: Array | Info, geometry: ConvAttributes) -> Windows:
    """Return the windows of the depthwise convolution on the expanded image. Raises OpError."""
    expanded = conv_shape(Info(x.dtype, x.shape), Info(w.dtype, w.shape))
    return conv_windows(expanded, taps, geometry=geometry)


def expand_depthwise_shape(
    x: Info, w: Info, b: Info | None, taps: Info, taps_b: Info | None = None, *, geometry: ConvAttributes,
    activation: Activation, expand_activation: Activation,
) -> list[Info]:  # fmt: skip
    """Infer the output shape of ExpandDepthwise."""
    y = conv_shape(conv_shape(x, w, b), taps, taps_b, geometry=geometry)
    return [y, Info(y.dtype, None if y.shape is None else (*y.shape[:-1], 1))]


@op("ExpandDepthwise", domain=FUSED, shape=expand_depthwise_shape)
def expand_depthwise(
    ctx: Context | None, x: Array, w: Array, b: Array | None, taps: Array, taps_b: Array | None = None, *,
    geometry: ConvAttributes, activation: Activation = Activation(), expand_activation: Activation = Activation(),
) -> Array | tuple[Array, Array]:  # fmt: skip
    """Compute two FusedConvs in a row.

    The first is 1×1 with `w` [E, C, 1, 1], the second depthwise with `taps` [E, 1, *kernel] and `geometry`. A second
    output is the mean of every row of the result, [N, E, H, 1].
    """
    wide = fused_conv(ctx, x, w, b, activation=expand_activation)
    y = fused_conv(ctx, wide, taps, taps_b, geometry=geometry, activation=activation)
    return (y, y.mean(axis=-1, keepdims=True)) if ctx is not None and ctx.n_outputs > 1 else y


# -- DepthwisePointwise -----------------------------------------------------------------


def depthwise_pointwise_shape(
    x: Info, taps: Info, taps_b: Info | None, w: Info, b: Info | None = None, residual: Info | None = None, *,
    geometry: ConvAttributes, activation: Activation, depthwise_activation: Activation,
) -> Info:  # fmt: skip
    """Infer the output shape of DepthwisePointwise."""
    return fused_conv_shape(conv_shape(x, taps, taps_b, geometry=geometry), w, b, residual)


@op("DepthwisePointwise", domain=FUSED, shape=depthwise_pointwise_shape)
def depthwise_pointwise(
    ctx: Context | None, x: Array, taps: Array, taps_b: Array | None, w: Array, b: Array | None = None,
    residual: Array | None = None, *, geometry: ConvAttributes, activation: Activation = Activation(),
    depthwise_activation: Activation = Activation(),
) -> Array:  # fmt: skip
    """Compute two FusedConvs in a row.

    The first is depthwise with `taps` [C, 1, *kernel], the second 1×1 with `w` [N, C, 1, 1] and a residual.
    """
    middle = fused_conv(ctx, x, taps, taps_b, geometry=geometry, activation=depthwise_activation)
    return fused_conv(ctx, middle, w, b, residual, activation=activation)


# -- TableRows --------------------------------------------------------------------------


@op("TableRows", domain=FUSED, shape=lambda table, ids: Info(table.dtype, (*ids.shape, *table.shape[1:])))
def table_rows(table: Array, ids: Array) -> Array:
    """Return rows of a table [rows, …] by their numbers, none of them negative.

    Raises OpError for a number out of range.
    """
    if ids.size and not (ids.min() >= 0 and ids.max() < len(table)):
        raise OpError(f"the numbers of rows are {ids.min()} to {ids.max()}, the table has {len(table)}")
    return np.asarray(table[ids])
