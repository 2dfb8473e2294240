"""The optimisation passes and their order; `Graph.verify` checks their result.

A pass is one file. Its docstring is the algebra; it matches a pattern, records a reason where it refuses a match
(`Rewrite.refused`), and rewrites the graph.
"""

from __future__ import annotations

from collections.abc import Callable

from tinyonnx.passes._rewrite import Remark, Rewrite
from tinyonnx.passes.check_lengths import check_lengths
from tinyonnx.passes.choose_bfloat16 import mark_rounded, round_weights
from tinyonnx.passes.drop_dead import drop_dead
from tinyonnx.passes.drop_empty_options import drop_empty_options
from tinyonnx.passes.fold_batchnorm import fold_batchnorm
from tinyonnx.passes.fold_channelwise import fold_channelwise
from tinyonnx.passes.fuse_activation import fuse_activation
from tinyonnx.passes.fuse_attention import fuse_attention
from tinyonnx.passes.fuse_depthwise_pointwise import fuse_depthwise_pointwise
from tinyonnx.passes.fuse_expand_depthwise import fuse_expand_depthwise
from tinyonnx.passes.fuse_gated_conv import fuse_gated_conv
from tinyonnx.passes.fuse_integer_products import fuse_integer_products
from tinyonnx.passes.fuse_linear import fuse_linear
from tinyonnx.passes.fuse_quantised import fuse_quantised
from tinyonnx.passes.fuse_residual import fuse_residual
from tinyonnx.passes.fuse_row_means import fuse_row_means
from tinyonnx.passes.fuse_squeeze_excite import fuse_squeeze_excite
from tinyonnx.passes.fuse_stem import fuse_stem
from tinyonnx.passes.hoist_gathers import hoist_gathers
from tinyonnx.passes.lower_attention import lower_attention
from tinyonnx.passes.lower_batchnorm import lower_batchnorm
from tinyonnx.passes.lower_einsum import lower_einsum
from tinyonnx.passes.lower_microsoft import lower_microsoft
from tinyonnx.passes.recognise_gelu import recognise_gelu
from tinyonnx.passes.recognise_hardswish import recognise_hardswish
from tinyonnx.passes.recognise_layer_norm import recognise_layer_norm
from tinyonnx.passes.recognise_swish import recognise_swish
from tinyonnx.passes.remove_noops import remove_noops
from tinyonnx.passes.sink_transposes import sink_transposes
from tinyonnx.passes.specialise import specialise
from tinyonnx.passes.split_into_slices import split_into_slices
from tinyonnx.passes.tabulate_bytes import tabulate_bytes
from tinyonnx.passes.widen_float16 import widen_float16

Pass = Callable[[Rewrite], None]

PIPELINE: list[Pass] = [
    # before weights of bytes are folded to floats
    fuse_quantised,
    # shapes first: later passes need them, and the exporters' shape chains disappear
    specialise,
    drop_dead,
    # kernels and the other passes handle float32
    widen_float16,
    drop_dead,
    # replaced by operators that the other passes handle
    lower_einsum,
    lower_attention,
    lower_microsoft,
    check_lengths,
    # patterns assume a graph without no-ops and with one form of each operation
    drop_empty_options,
    split_into_slices,
    # before no-ops are removed: it leaves Reshapes of Reshapes
    hoist_gathers,
    # before no-ops are removed: of one channel or row, Transposes are Reshapes afterwards
    sink_transposes,
    remove_noops,
    drop_dead,
    recognise_hardswish,
    recognise_swish,
    recognise_gelu,
    recognise_layer_norm,
    # of activations in one form
    tabulate_bytes,
    # into the weights before the epilogue: a fused convolution is no longer a Conv
    fold_channelwise,
    fold_batchnorm,
    # those that were not folded into a convolution
    lower_batchnorm,
    # of plain convolutions, whose tensors still have the names of the file
    round_weights,
    # before the factors of queries and keys are fused with other nodes
    fuse_attention,
    # before the residual, which would take the bias
    fuse_integer_products,
    # the epilogue in order of execution: sum, then activation
    fuse_residual,
    fuse_linear,
    fuse_activation,
    # last, because their patterns consist of fused convolutions
    fuse_squeeze_excite,
    fuse_gated_conv,
    fuse_expand_depthwise,
    fuse_depthwise_pointwise,
    fuse_stem,
    fuse_row_means,
    drop_dead,
    # of the nodes that run
    mark_rounded,
]

BASIC: list[Pass] = [specialise, drop_dead]
"""Passes of an unoptimised plan: shapes are inferred, nothing is fused."""

VERIFY_EACH = False
"""Whether graphs are verified after each pass, too, to find the one that breaks a graph. The tests do so."""

_VERIFIED_NODES = 5000
"""Largest graph verified after each pass: beyond, verifying dominates the time of planning."""

EXPRESSIBLE: list[Pass] = [
    specialise, drop_dead, remove_noops, drop_dead, fold_channelwise, fold_batchnorm, drop_dead,
]  # fmt: skip
"""Passes whose result has only ONNX's own operators: an optimised model for any runtime."""

__all__ = ["BASIC", "EXPRESSIBLE", "PIPELINE", "Pass", "Remark", "Rewrite", "run_passes"]


def run_passes(rewrite: Rewrite, passes: list[Pass]) -> None:
    """Run passes in order; verify the graph after the last, with `VERIFY_EACH` after each if it is not very large."""
    verify_each = VERIFY_EACH and len(rewrite.graph.nodes) <= _VERIFIED_NODES
    for function in passes:
        rewrite.pass_name = function.__name__
        function(rewrite)
        if verify_each:
            rewrite.graph.verify()
    if not verify_each:
        rewrite.graph.verify()
