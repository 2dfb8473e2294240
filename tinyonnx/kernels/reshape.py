"""Reshape and its special cases: a copy in row-major order, which is left out if the input is not read later."""

from __future__ import annotations

from typing import Any

from tinyonnx.ir import Array
from tinyonnx.kernels._strided import bits, movable
from tinyonnx.kernels.elementwise import copy
from tinyonnx.ops.shape import flatten, reshape, squeeze, squeeze_1, unsqueeze, unsqueeze_1
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool


def _refused(out: Info, x: Info | None, shape: Info | None, **_: Any) -> str | None:
    if x is None or x.value is not None or shape is None or shape.value is None:
        return "the input is constant, or the shape is not"
    return None if movable(out.dtype) else f"elements of {out.dtype}"


@fast(reshape, when=_refused, layout="row_major", in_place=True)
def bind_reshape(pool: ConstantPool, out: Array, x: Array, shape: Array, **_: Any) -> Call:
    """Bind a copy; `out` has the target shape."""
    return Call(copy, (bits(x), bits(out)))


def _changed(out: Info, x: Info | None, *_: Info | None, **__: Any) -> str | None:
    if x is None or x.value is not None:
        return "the input is constant"
    return None if movable(out.dtype) else f"elements of {out.dtype}"


@fast(squeeze_1, when=_changed, layout="row_major", in_place=True)
@fast(unsqueeze_1, when=_changed, layout="row_major", in_place=True)
@fast(squeeze, when=_changed, layout="row_major", in_place=True)
@fast(unsqueeze, when=_changed, layout="row_major", in_place=True)
@fast(flatten, when=_changed, layout="row_major", in_place=True)
def bind_changed_rank(pool: ConstantPool, out: Array, x: Array, *_: Array, **__: Any) -> Call:
    """Bind a copy; `out` has the new shape."""
    return Call(copy, (bits(x), bits(out)))
