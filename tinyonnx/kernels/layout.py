"""Copies from one memory order to another."""

from __future__ import annotations

from tinyonnx.ir import Array
from tinyonnx.kernels.move import move_view
from tinyonnx.registry import Call


def copy_layout(source: Array, target: Array) -> Call:
    """Copy an array to one of the same shape in another memory order."""
    return move_view(source, source, target, target)
