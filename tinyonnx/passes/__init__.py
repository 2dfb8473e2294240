"""The rewrites, in the order in which they run; `Graph.verify()` proves the graph after each.

A pass is one file: its docstring is the algebra, it matches a pattern, says why not where it
refuses (`Rewrite.refused`), and rewrites.
"""

from __future__ import annotations

from collections.abc import Callable

from tinyonnx.passes._rewrite import Remark, Rewrite
from tinyonnx.passes.drop_dead import drop_dead
from tinyonnx.passes.drop_empty_options import drop_empty_options
from tinyonnx.passes.fold_batchnorm import fold_batchnorm
from tinyonnx.passes.fold_channelwise import fold_channelwise
from tinyonnx.passes.fuse_activation import fuse_activation
from tinyonnx.passes.fuse_depthwise_pointwise import fuse_depthwise_pointwise
from tinyonnx.passes.fuse_expand_depthwise import fuse_expand_depthwise
from tinyonnx.passes.fuse_gated_conv import fuse_gated_conv
from tinyonnx.passes.fuse_residual import fuse_residual
from tinyonnx.passes.fuse_row_means import fuse_row_means
from tinyonnx.passes.fuse_squeeze_excite import fuse_squeeze_excite
from tinyonnx.passes.fuse_stem import fuse_stem
from tinyonnx.passes.recognise_hardswish import recognise_hardswish
from tinyonnx.passes.recognise_swish import recognise_swish
from tinyonnx.passes.remove_noops import remove_noops
from tinyonnx.passes.specialise import specialise
from tinyonnx.passes.split_into_slices import split_into_slices

Pass = Callable[[Rewrite], None]

PIPELINE: list[Pass] = [
    # shapes first: every later pass may ask for them, and the exporters' shape chains vanish
    specialise,
    drop_dead,
    # patterns are written for graphs without identities and with one spelling of everything
    drop_empty_options,
    split_into_slices,
    remove_noops,
    drop_dead,
    recognise_hardswish,
    recognise_swish,
    # into the weights before into the epilogue: a fused convolution is no longer a Conv
    fold_channelwise,
    fold_batchnorm,
    # epilogue in the order in which it computes: sum, then activation
    fuse_residual,
    fuse_activation,
    # last, as they are made of fused linear maps
    fuse_squeeze_excite,
    fuse_gated_conv,
    fuse_expand_depthwise,
    fuse_depthwise_pointwise,
    fuse_stem,
    fuse_row_means,
    drop_dead,
]

BASIC: list[Pass] = [specialise, drop_dead]
"""What an unoptimised plan needs: shapes known, nothing fused."""

_MANY = 5000
"""Verifying takes most of the time of planning so many nodes."""

EXPRESSIBLE: list[Pass] = [
    specialise, drop_dead, remove_noops, drop_dead, fold_channelwise, fold_batchnorm, drop_dead,
]  # fmt: skip
"""What leaves only ONNX's own operators: the optimised model as a file for any runtime."""

__all__ = ["BASIC", "EXPRESSIBLE", "PIPELINE", "Pass", "Remark", "Rewrite", "run_passes"]


def run_passes(rewrite: Rewrite, passes: list[Pass], verify_each: bool = True) -> None:
    """Run passes in order; the graph is verified after the last, and unless it has very many nodes after each.

    Verifying is half of the work: without `verify_each` a session, whose first plan was verified
    after each pass, makes one for another length of clip in half the time.
    """
    verify_each = verify_each and len(rewrite.graph.nodes) <= _MANY
    for function in passes:
        rewrite.pass_name = function.__name__
        function(rewrite)
        if verify_each:
            rewrite.graph.verify()
    if not verify_each:
        rewrite.graph.verify()
