"""com.microsoft: fused convolutions, products and activations, and a few small operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops import activation as act
from tinyonnx.ops.conv import ConvAttributes, conv, conv_shape
from tinyonnx.ops.math import clip_6, one_axis, quiet, widened
from tinyonnx.ops.matmul import GemmAttributes, gemm, gemm_shape, matmul, matmul_shape
from tinyonnx.ops.microsoft._common import check_shape, microsoft, unsupported
from tinyonnx.ops.pad import pad
from tinyonnx.ops.tensor import range_
from tinyonnx.registry import Attributes, Context, Info, broadcast, by_running, same_as

# -- activations in other operators -----------------------------------------------------

_FUSIBLE: dict[str, tuple[Callable[..., Array], tuple[str, ...]]] = {
    "Relu": (act.relu, ()),
    "Tanh": (act.tanh, ()),
    "Sigmoid": (act.sigmoid, ()),
    "Softplus": (act.softplus, ()),
    "Softsign": (act.softsign, ()),
    "HardSwish": (act.hard_swish, ()),
    "Elu": (act.elu, ("alpha",)),
    "LeakyRelu": (act.leaky_relu, ("alpha",)),
    "ThresholdedRelu": (act.thresholded_relu, ("alpha",)),
    "HardSigmoid": (act.hard_sigmoid, ("alpha", "beta")),
    "Selu": (act.selu, ("alpha", "gamma")),
    "Clip": (clip_6, ("min", "max")),
}
"""Function by name, with its parameters in the order of FusedConv's activation_params."""


def activated(x: Array, name: str, params: Sequence[float | None] | None = None, **given: float | None) -> Array:
    """Apply the activation of that name ("": none); parameters come in order or by name, absent ones have defaults.

    Raises OpError.
    """
    if not name:
        return x
    if name not in _FUSIBLE:
        raise OpError(f"activation {name!r} can't be fused")
    function, names = _FUSIBLE[name]
    numbers = dict(zip(names, params or ())) | {k: v for k, v in given.items() if k in names}
    return function(x, **{k: v for k, v in numbers.items() if v is not None})


# -- FusedConv --------------------------------------------------------------------------


def _fused_conv_shape(
    x: Info, w: Info, b: Info | None = None, z: Info | None = None, *, geometry: ConvAttributes, **_: Any
) -> Info:
    info = conv_shape(x, w, b, geometry=geometry)
    if info.shape is not None:
        check_shape("Z", z, info.shape)
    return info


@microsoft("FusedConv", shape=_fused_conv_shape)
@quiet
def fused_conv(
    ctx: Context | None, x: Array, w: Array, b: Array | None = None, z: Array | None = None, *,
    geometry: ConvAttributes = ConvAttributes(), activation: str = "", activation_params: Sequence[float] | None = None,
) -> Array:  # fmt: skip
    """Compute activation(Conv(x, w, b) + z)"""
    y = conv(ctx, x, w, b, geometry=geometry)
    check_shape("Z", z, y.shape)
    return activated(y if z is None else y + z, activation, activation_params)


# -- products ---------------------------------------------------------------------------


def _fused_gemm_shape(a: Info, b: Info, c: Info | None = None, *, product: GemmAttributes, **_: Any) -> Info:
    return gemm_shape(a, b, c, product=product)


@microsoft("FusedGemm", shape=_fused_gemm_shape)
@quiet
def fused_gemm(
    a: Array, b: Array, c: Array | None = None, *, product: GemmAttributes = GemmAttributes(), activation: str = "",
    activation_alpha: float | None = None, activation_beta: float | None = None, activation_gamma: float | None = None,
) -> Array:  # fmt: skip
    y = gemm(a, b, c, product=product)
    return activated(y, activation, alpha=activation_alpha, beta=activation_beta, gamma=activation_gamma)


def _order(rank: int, batch: int, trans: int) -> list[int]:
    """Return the order of an operand's axes: `batch` moves axis 0 before the last, `trans` swaps the last two."""
    axes = list(range(rank))
    if batch and rank > 1:
        axes.insert(rank - 2, axes.pop(0))
    if trans and rank > 1:
        axes[-2:] = axes[-1], axes[-2]
    return axes


class FusedMatMulAttributes(Attributes):
    """A factor, and the order of the operands' axes."""

    alpha: float = 1.0
    transA: int = 0
    transB: int = 0
    transBatchA: int = 0
    transBatchB: int = 0


def _fused_matmul_shape(a: Info, b: Info, *, product: FusedMatMulAttributes) -> Info:
    if a.shape is None or b.shape is None:
        return Info(a.dtype, None)
    a_shape = tuple(a.shape[i] for i in _order(a.ndim, product.transBatchA, product.transA))
    b_shape = tuple(b.shape[i] for i in _order(b.ndim, product.transBatchB, product.transB))
    return matmul_shape(Info(a.dtype, a_shape), Info(b.dtype, b_shape))


@microsoft("TransposeMatMul", shape=_fused_matmul_shape)
@microsoft("FusedMatMul", shape=_fused_matmul_shape)
@quiet
def fused_matmul(a: Array, b: Array, *, product: FusedMatMulAttributes) -> Array:
    """Return `alpha` times the product of the operands after their axes have been reordered."""
    a = a.transpose(_order(a.ndim, product.transBatchA, product.transA))
    b = b.transpose(_order(b.ndim, product.transBatchB, product.transB))
    if product.alpha == 1:
        return matmul(a, b)
    return np.asarray(matmul(widened(a), widened(b)) * product.alpha).astype(a.dtype, copy=False)


# -- activations ------------------------------------------------------------------------


@microsoft("Gelu", shape=same_as())
def gelu(x: Array) -> Array:
    return act.gelu(x)


def _biased(x: Array, bias: Array | None) -> Array:
    if bias is None:
        return widened(x)
    if x.ndim < 1:
        raise OpError("a scalar has no last axis for a bias")
    check_shape("the bias", bias, x.shape[-1:])
    return np.asarray(widened(x) + widened(bias))


def _biased_shape(x: Info, bias: Info | None = None) -> Info:
    if x.shape is not None:
        check_shape("the bias", bias, x.shape[-1:])
    return Info(x.dtype, x.shape)


@microsoft("BiasGelu", shape=_biased_shape)
@quiet
def bias_gelu(a: Array, b: Array) -> Array:
    return act.gelu(_biased(a, b)).astype(a.dtype, copy=False)


@microsoft("FastGelu", shape=_biased_shape)
@quiet
def fast_gelu(x: Array, bias: Array | None = None) -> Array:
    return act.gelu(_biased(x, bias), approximate="tanh").astype(x.dtype, copy=False)


@microsoft("QuickGelu", shape=same_as())
def quick_gelu(x: Array, *, alpha: float = 1.702) -> Array:
    return act.swish(x, alpha=alpha)


@microsoft("BiasSoftmax", shape=broadcast())
@quiet
def bias_softmax(data: Array, bias: Array, *, is_inner_broadcast: int, axis: int = 1) -> Array:
    """Compute Softmax over all axes from `axis` on; the bias broadcasts along the axes before."""
    one_axis(axis, data.ndim)
    try:
        total = widened(data) + widened(bias)
    except ValueError:
        total = None
    if total is None or total.shape != data.shape:
        raise OpError(f"bias of shape {list(bias.shape)} doesn't broadcast to {list(data.shape)}")
    return act.softmax_1(total, axis=axis).astype(data.dtype, copy=False)


# -- small ones -------------------------------------------------------------------------


@microsoft("Inverse", shape=same_as())
@quiet
def inverse(x: Array) -> Array:
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise OpError(f"X has shape {list(x.shape)}, needs square matrices in the last two axes")
    try:
        return np.linalg.inv(widened(x)).astype(x.dtype, copy=False)
    except np.linalg.LinAlgError:
        raise OpError("X has a singular matrix") from None


@microsoft("Pad", shape=by_running(lambda data, pads, value=None, **mode: pad(None, data, pads, value, **mode), "pads"))
def pad_(ctx: Context, data: Array, pads: Array, value: Array | None = None, *, mode: str = "constant") -> Array:
    return pad(ctx, data, pads.reshape(-1), value, mode=mode)


@microsoft("Range")
def range_1(ctx: Context, start: Array, limit: Array, delta: Array | None = None) -> Array:
    return range_(ctx, start, limit, np.ones((), start.dtype) if delta is None else delta)


def _fourier_shape(inverse: bool) -> Callable[..., Info]:
    def rule(x: Info, *, signal_ndim: int = 1, **_: Any) -> Info:
        if x.shape is None:
            return Info(x.dtype, None)
        signal = x.shape[:-1] if inverse else x.shape
        _signal_axes(x.shape, signal_ndim, inverse)
        last = 2 * (signal[-1] - 1) if inverse else signal[-1] // 2 + 1
        return Info(x.dtype, (*signal[:-1], last, *(() if inverse else (2,))))

    return rule


def _signal_axes(shape: tuple[int, ...], signal_ndim: int, inverse: bool) -> tuple[int, ...]:
    rank = len(shape) - inverse
    if inverse and shape[-1:] != (2,):
        raise OpError(f"X has shape {list(shape)}, its last axis should be 2: real and imaginary part")
    if not 1 <= signal_ndim <= rank:
        raise OpError(f"signal_ndim is {signal_ndim}, should be between 1 and {rank}")
    if 0 in shape[:rank][-signal_ndim:] or (inverse and shape[rank - 1] < 2):
        raise OpError(f"X has shape {list(shape)}: the signal is empty")
    return tuple(range(rank - signal_ndim, rank))


@microsoft("Rfft", shape=_fourier_shape(False))
@quiet
def rfft(x: Array, *, normalized: int = 0, onesided: int = 1, signal_ndim: int = 1) -> Array:
    unsupported(normalized=normalized, twosided=not onesided)
    y = np.fft.rfftn(x.astype(np.float64), axes=_signal_axes(x.shape, signal_ndim, False))
    return np.stack([y.real, y.imag], axis=-1).astype(x.dtype)


@microsoft("Irfft", shape=_fourier_shape(True))
@quiet
def irfft(x: Array, *, signal_ndim: int, normalized: int = 0, onesided: int = 1) -> Array:
    unsupported(normalized=normalized, twosided=not onesided)
    axes = _signal_axes(x.shape, signal_ndim, True)
    wide = x.astype(np.float64)
    return np.fft.irfftn(wide[..., 0] + 1j * wide[..., 1], axes=axes).astype(x.dtype)
