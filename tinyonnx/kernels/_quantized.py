"""Reasons for refusing quantised operands, shared by binders."""

from __future__ import annotations

import numpy as np

from tinyonnx.registry import Info

_BYTE = (np.dtype(np.int8), np.dtype(np.uint8))


def bytes_refused(*infos: Info | None) -> str | None:
    """Refuse tensors of other types than int8 and uint8."""
    other = next((i.dtype for i in infos if i is not None and i.dtype not in _BYTE), None)
    return None if other is None else f"{other}, not bytes"


def one_number_refused(**infos: Info | None) -> str | None:
    """Refuse scales and zero points that are not single numbers."""
    many = next((name for name, i in infos.items() if i is not None and np.prod(i.shape or ()) != 1), None)
    return None if many is None else f"{many} is not one number"


def parameters_refused(
    x: Info | None, w: Info | None, x_zero: Info | None, w_zero: Info | None, columns: int
) -> str | None:  # fmt: skip
    """Refuse operands that aren't bytes, weights that aren't constant, and zero points of other types and shapes."""
    if x is None or w is None or w.value is None or (w_zero is not None and w_zero.value is None):
        return "weights are not constant"
    if x.value is not None:
        return "the input is constant"
    if w_zero is not None and (w_zero.dtype != w.dtype or w_zero.shape not in ((), (1,), (columns,))):
        return "the zero points of the weights are neither one number nor one for each column"
    if x_zero is not None and x_zero.dtype != x.dtype:
        return "the zero point has another type"
    return bytes_refused(x, w) or one_number_refused(x_zero=x_zero)


def exact_refused(k: int, offset: Info | None = None) -> str | None:
    """Refuse products whose sums may overflow an int32."""
    if offset is not None and offset.value is None:
        return "the bias is not constant"
    greatest = 0 if offset is None or offset.value is None else int(np.abs(offset.value.astype(np.int64)).max())
    return f"sums of {k} products may exceed an int32" if greatest + k * 255 * 255 > 2**31 - 1 else None


def scales_refused(columns: int, w_scale: Info | None, **single: Info | None) -> str | None:
    """Refuse scales that are not float32, or neither a single number nor one for each column of the weights.

    A single number for several columns is repeated when the kernel is bound: it must be constant.
    """
    infos = [i for i in (w_scale, *single.values()) if i is not None]
    if any(i.dtype != np.float32 for i in infos):
        return "a scale is not float32"
    if w_scale is not None and w_scale.shape not in ((), (1,), (columns,)):
        return "the scales of the weights are neither one number nor one for each column"
    if w_scale is not None and w_scale.value is None and w_scale.shape != (columns,):
        return "the scale of the weights is computed"
    return one_number_refused(**single)
