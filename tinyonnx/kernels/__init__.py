"""Compiled kernels; importing this package registers those of the operators that most models need.

The registry imports further operators when it is asked for one; then the planner imports their kernels, `others`.

| module | operators |
|---|---|
| `pointwise` | 1×1 convolutions |
| `depthwise` | convolutions with one filter per channel |
| `expand_depthwise`, `depthwise_pointwise`, `stem` | two or three convolutions in a row, fused |
| `conv` | all other convolutions |
| `computed_conv` | convolutions with computed weights |
| `conv_transpose` | transposed convolutions |
| `gemm` | products with a constant matrix, and the register tiles that all products use |
| `attention` | attention, as the passes fuse it |
| `matmul` | products of two variable matrices |
| `recurrent`, `recurrent_layers` | LSTM, GRU, RNN: kernel; binders |
| `quantized_recurrent` | DynamicQuantizeLSTM |
| `quantize` | bytes from floats and back |
| `quantized_elementwise` | functions of one byte, sums, products and maxima of bytes |
| `quantized_matmul` | products of bytes with a constant matrix |
| `quantized_gemm` | the register tiles of such products, packing |
| `blocks` | products with weights of a few bits, quantised in blocks |
| `quantized_conv`, `quantized_depthwise`, `quantized_conv_layers` | convolutions of bytes: kernels; binders |
| `rows` | softmax and reductions of the last axes |
| `normalise` | normalisation of rows, channels and groups of channels |
| `columns` | reductions of other axes |
| `gated` | squeeze-and-excitation |
| `pool` | pooling, by windows and global |
| `elementwise` | activations and arithmetic on arrays of one shape |
| `curves` | activations that are not fused with other operators |
| `unary` | exponentials, roots, rounding and other functions of one number |
| `broadcast` | arithmetic on arrays of different shapes |
| `pairs` | arithmetic of integers, comparisons, logic, choices |
| `convert` | conversions between element types |
| `reshape` | copies in row-major order |
| `move` | transposing, slicing, gathering of constant indices, concatenating, padding |
| `indexing` | gathering and scattering by computed indices |
| `selection` | positions of extremes, sorting out the greatest, running sums |
| `trees` | ensembles of decision trees |
| `detection` | suppression of overlapping boxes |
| `resize` | resampling of images |
| `layout` | copies between memory orders |
| `_common`, `_quantized`, `_strided` | records and checks that binders share; axes of strided views |

Each module has its compiled functions first and, at its end, the binders that `tinyonnx.registry.fast`
registers. `tinyonnx.codegen` compiles them; `tinyonnx.runtime.program` runs many in one call.
"""

from __future__ import annotations

import tinyonnx.kernels.pool  # noqa: F401  means of images go before the reductions of `rows`, which `columns` imports
from tinyonnx.codegen.kernel import BoundKernel
from tinyonnx.kernels import (  # noqa: F401
    attention,
    broadcast,
    columns,
    computed_conv,
    conv,
    conv_transpose,
    convert,
    curves,
    depthwise,
    depthwise_pointwise,
    elementwise,
    expand_depthwise,
    gated,
    gemm,
    indexing,
    matmul,
    move,
    normalise,
    pairs,
    pointwise,
    pool,
    reshape,
    resize,
    rows,
    selection,
    stem,
    unary,
)
from tinyonnx.kernels.layout import copy_layout

__all__ = ["BoundKernel", "copy_layout"]
