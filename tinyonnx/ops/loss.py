"""Classification losses: negative log likelihood and softmax cross entropy."""

from __future__ import annotations

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.registry import Info, op


def _loss(
    log_prob: Array, target: Array, weight: Array | None, ignore_index: int | None, reduction: str,
) -> Array:  # fmt: skip
    """Return the loss of log-probabilities [N, C, d…] for classes [N, d…], computed in float32 at least."""
    if log_prob.ndim < 2:
        raise OpError(f"input has rank {log_prob.ndim}, needs [N, C, d…]")
    classes = log_prob.shape[1]
    expected = (log_prob.shape[0], *log_prob.shape[2:])
    if target.shape != expected:
        raise OpError(f"target has shape {list(target.shape)}, input {list(log_prob.shape)} requires {list(expected)}")
    if weight is not None and weight.shape != (classes,):
        raise OpError(f"weight has shape {list(weight.shape)}, not {[classes]}")
    counted = np.ones(target.shape, np.bool_) if ignore_index is None else target != ignore_index
    wrong = counted & ((target < 0) | (target >= classes))
    if wrong.any():
        raise OpError(f"target {int(target[wrong][0])} is out of range for {classes} classes")
    chosen = np.where(counted, target, 0)
    if not classes:
        losses = np.zeros(target.shape, log_prob.dtype)
    else:
        losses = -np.take_along_axis(log_prob, chosen[:, None], axis=1)[:, 0]
    share = counted.astype(losses.dtype)
    if weight is not None and classes:
        share *= weight.astype(losses.dtype)[chosen]
    losses = np.where(counted, losses * share, 0)
    match reduction:
        case "none":
            return losses
        case "sum":
            return np.asarray(losses.sum())
        case "mean":
            with np.errstate(all="ignore"):
                return np.asarray(losses.sum() / share.sum())
        case _:
            raise OpError(f"reduction is {reduction!r}, must be none, mean or sum")


def _wide(x: Array) -> Array:
    return x.astype(np.float32) if x.dtype.itemsize < 4 else x


def _nll_shape(
    x: Info, target: Info, weight: Info | None = None, *, ignore_index: int | None = None, reduction: str = "mean"
) -> Info:
    return Info(x.dtype, target.shape if reduction == "none" else ())


@op("NegativeLogLikelihoodLoss", since=12, shape=_nll_shape)
def negative_log_likelihood_loss(
    x: Array, target: Array, weight: Array | None = None, *, ignore_index: int | None = None, reduction: str = "mean"
) -> Array:
    """Return the loss of log-probabilities; ignored targets count neither in the sum nor in the mean."""
    return _loss(_wide(x), target, weight, ignore_index, reduction).astype(x.dtype)


def softmax_cross_entropy_loss(
    scores: Array, labels: Array, weights: Array | None = None, *, ignore_index: int | None = None,
    reduction: str = "mean",
) -> tuple[Array, Array]:  # fmt: skip
    """Return the loss of scores and their log-probabilities."""
    if scores.ndim < 2:
        raise OpError(f"scores has rank {scores.ndim}, needs [N, C, d…]")
    wide = _wide(scores)
    with np.errstate(all="ignore"):
        shifted = wide - wide.max(axis=1, keepdims=True, initial=-np.inf)
        log_prob = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        loss = _loss(log_prob, labels, weights, ignore_index, reduction)
    return loss.astype(scores.dtype), log_prob.astype(scores.dtype)


def _softmax_shape(
    scores: Info, labels: Info, weights: Info | None = None, *, ignore_index: int | None = None, reduction: str = "mean"
) -> list[Info]:
    return [Info(scores.dtype, labels.shape if reduction == "none" else ()), Info(scores.dtype, scores.shape)]


op("SoftmaxCrossEntropyLoss", since=12, shape=_softmax_shape)(softmax_cross_entropy_loss)
