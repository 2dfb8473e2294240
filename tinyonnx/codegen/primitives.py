"""The shape of vectors and register tiles on this machine, and the primitives that kernels are made of.

The primitives' meaning, in numpy, is in `_nojit`; `_jit` emits them as vector code.
"""

from __future__ import annotations

from tinyonnx.codegen import machine, primitives_numpy
from tinyonnx.codegen.kernel import DISABLED, Primitive

# Activations that the primitives apply in registers; codes from `POSTPONED` on are for
# `elementwise.activate`, and linear here.
LINEAR, CLIP, HARD_SWISH, POSTPONED = 0, 1, 2, 3

LANES, _REGISTERS = (primitives_numpy.LANES, 16) if DISABLED else machine.vector_shape()
"""Floats in a vector."""

ROWS_1, ROWS_2, ROWS_3 = (16, 8, 8) if _REGISTERS == 32 else (8, 6, 4)
"""Rows of a GEMM tile that is 1, 2 or 3 vectors wide, measured: 12 rows of 2 spill and take twice the time."""

FEW_1, FEW_2, FEW_3 = ROWS_1 // 2, ROWS_2 // 2, ROWS_3 // 2
"""The same where fewer rows are left."""

PIXELS = 8 if _REGISTERS == 32 else 4
"""Neighbouring output pixels of a depthwise tile."""

FEW_PIXELS = PIXELS // 2
"""The same for images that are narrower."""

gemm_tile = Primitive(primitives_numpy.gemm_tile)
window_tile = Primitive(primitives_numpy.window_tile)
taps_tile = Primitive(primitives_numpy.taps_tile)
float_from_bits = Primitive(primitives_numpy.float_from_bits)
bits_from_float = Primitive(primitives_numpy.bits_from_float)
