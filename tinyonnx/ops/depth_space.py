"""DepthToSpace and SpaceToDepth: move blocks of pixels from channels to spatial axes and back."""

from __future__ import annotations

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.registry import Info, op


def _check(x: Array | Info, blocksize: int, mode: str) -> tuple[int, int, int, int]:
    assert x.shape is not None
    if len(x.shape) != 4:
        raise OpError(f"input has {len(x.shape)} dimensions, not 4: batch, channels, height, width")
    if blocksize < 1:
        raise OpError(f"blocksize is {blocksize}, must be positive")
    if mode not in ("DCR", "CRD"):
        raise OpError(f"mode is {mode!r}, not DCR or CRD")
    n, c, h, w = x.shape
    return n, c, h, w


# -- DepthToSpace -----------------------------------------------------------------------


def _to_space(x: Array | Info, blocksize: int, mode: str) -> tuple[int, int, int, int]:
    n, c, h, w = _check(x, blocksize, mode)
    if c % blocksize**2:
        raise OpError(f"{c} channels don't fill blocks of {blocksize} x {blocksize}")
    return n, c // blocksize**2, h * blocksize, w * blocksize


def depth_to_space_shape(input: Info, *, blocksize: int, mode: str = "DCR") -> Info:
    """Infer the output shape of DepthToSpace."""
    return Info(input.dtype, None if input.shape is None else _to_space(input, blocksize, mode))


@op("DepthToSpace", since=1, shape=depth_to_space_shape)
def depth_to_space(input: Array, *, blocksize: int, mode: str = "DCR") -> Array:
    shape = _to_space(input, blocksize, mode)
    n, _, h, w = input.shape
    if mode == "DCR":
        blocks = input.reshape(n, blocksize, blocksize, shape[1], h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        blocks = input.reshape(n, shape[1], blocksize, blocksize, h, w).transpose(0, 1, 4, 2, 5, 3)
    return blocks.reshape(shape)


# -- SpaceToDepth -----------------------------------------------------------------------


def _to_depth(x: Array | Info, blocksize: int, mode: str) -> tuple[int, int, int, int]:
    n, c, h, w = _check(x, blocksize, mode)
    if h % blocksize or w % blocksize:
        raise OpError(f"blocks of {blocksize} x {blocksize} don't tile {h} x {w}")
    return n, c * blocksize**2, h // blocksize, w // blocksize


def space_to_depth_shape(input: Info, *, blocksize: int, mode: str = "DCR") -> Info:
    """Infer the output shape of SpaceToDepth."""
    return Info(input.dtype, None if input.shape is None else _to_depth(input, blocksize, mode))


@op("SpaceToDepth", since=1, shape=space_to_depth_shape)
def space_to_depth(input: Array, *, blocksize: int, mode: str = "DCR") -> Array:
    shape = _to_depth(input, blocksize, mode)
    n, c, _, _ = input.shape
    blocks = input.reshape(n, c, shape[2], blocksize, shape[3], blocksize)
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return blocks.transpose(order).reshape(shape)
