"""One step of an optimiser for any number of tensors (domain ai.onnx.preview.training).

The inputs after rate and count are groups with one entry per tensor: all X, all gradients,
all states. The outputs are all new X, then all new states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.registry import Info, op

_DOMAIN = "ai.onnx.preview.training"

Update = Callable[..., tuple[Array, ...]]


def _scalar(value: Array, name: str) -> Any:
    if value.size != 1:
        raise OpError(f"{name} has shape {list(value.shape)}, not one element")
    return value.reshape(())[()]


def _groups(inputs: Sequence[Any], size: int) -> list[Sequence[Any]]:
    if not inputs or len(inputs) % size:
        raise OpError(f"{len(inputs)} tensors after R and T, not a multiple of {size}")
    count = len(inputs) // size
    return [inputs[group * count : group * count + count] for group in range(size)]


def _each(inputs: Sequence[Array], size: int, update: Update) -> tuple[Array, ...]:
    """Apply `update(x, gradient, *states)` to every tensor; a number keeps the dtype of its tensor."""
    groups = _groups(inputs, size)
    results = []
    for tensors in zip(*groups, strict=True):
        shapes = {tensor.shape for tensor in tensors}
        if len(shapes) > 1:
            raise OpError(f"a tensor, its gradient and its states have shapes {sorted(map(list, shapes))}")
        with np.errstate(all="ignore"):
            new = update(*tensors)
        results.append([np.asarray(y, tensors[0].dtype) for y in new])
    return tuple(y for group in zip(*results, strict=True) for y in group)


def _shape(size: int) -> Callable[..., list[Info] | None]:
    def rule(rate: Info, count: Info, *inputs: Info | None, **_: Any) -> list[Info] | None:
        tensors, _gradients, *states = _groups(inputs, size)
        return [Info(info.dtype, info.shape) for group in (tensors, *states) for info in group if info is not None]

    return rule


@op("Adagrad", domain=_DOMAIN, shape=_shape(3))
def adagrad(
    R: Array, T: Array, *inputs: Array, norm_coefficient: float = 0.0, decay_factor: float = 0.0, epsilon: float = 1e-6
) -> tuple[Array, ...]:
    """Take a step of AdaGrad (Duchi, Hazan and Singer 2011), with L2 regularisation."""
    rate = _scalar(R, "R") / (1 + _scalar(T, "T") * decay_factor)

    def update(x: Array, gradient: Array, squares: Array) -> tuple[Array, ...]:
        g = norm_coefficient * x + gradient
        new = squares + g * g
        return x - rate * g / (np.sqrt(new) + epsilon), new

    return _each(inputs, 3, update)


@op("Adam", domain=_DOMAIN, shape=_shape(4))
def adam(
    R: Array, T: Array, *inputs: Array, alpha: float = 0.9, beta: float = 0.999, epsilon: float = 1e-6,
    norm_coefficient: float = 0.0, norm_coefficient_post: float = 0.0,
) -> tuple[Array, ...]:  # fmt: skip
    """Take a step of Adam (Kingma and Ba 2014), with L2 regularisation before and after it."""
    rate, count = _scalar(R, "R"), int(_scalar(T, "T"))
    if count > 0:
        rate = rate * np.sqrt(1 - beta**count) / (1 - alpha**count)

    def update(x: Array, gradient: Array, mean: Array, squares: Array) -> tuple[Array, ...]:
        g = norm_coefficient * x + gradient
        new_mean = alpha * mean + (1 - alpha) * g
        new_squares = beta * squares + (1 - beta) * (g * g)
        moved = x - rate * new_mean / (np.sqrt(new_squares) + epsilon)
        return (1 - norm_coefficient_post) * moved, new_mean, new_squares

    return _each(inputs, 4, update)


@op("Momentum", domain=_DOMAIN, shape=_shape(3))
def momentum(
    R: Array, T: Array, *inputs: Array, alpha: float, beta: float, mode: str, norm_coefficient: float
) -> tuple[Array, ...]:
    """Take a step of gradient descent with momentum, standard or Nesterov's, with L2 regularisation."""
    if mode not in ("standard", "nesterov"):
        raise OpError(f"mode is {mode!r}, must be standard or nesterov")
    rate = _scalar(R, "R")
    scale = beta if _scalar(T, "T") > 0 else 1.0

    def update(x: Array, gradient: Array, velocity: Array) -> tuple[Array, ...]:
        g = norm_coefficient * x + gradient
        new = alpha * velocity + scale * g
        return x - rate * (g + alpha * new if mode == "nesterov" else new), new

    return _each(inputs, 3, update)
