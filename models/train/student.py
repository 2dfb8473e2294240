"""The student: a MobileNetV3 of EfficientAT's family in torch, initialised from a pruned teacher.

Parameters have the names of EfficientAT's checkpoints, so that one state dict serves torch and
`audiotag.models.mobilenet`. The student has the teacher's blocks with fewer expanded channels; the channels between
blocks and the embedding have the teacher's sizes, so that both networks' tensors can be compared at every block.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiotag.models.mobilenet import BATCHNORM_EPSILON, Config, InvertedResidual, build
from tinyonnx import Graph

Array = np.ndarray[Any, Any]

EXPANDED = (8, 24, 32, 32, 48, 48, 96, 80, 64, 64, 176, 256, 256, 352, 352)
"""Expanded channels of the student's blocks, multiples of 16 where the engine's vectors make that faster.

mn04 has 8, 24, 32, 32, 48, 48, 96, 80, 72, 72, 192, 272, 272, 384, 384."""

HIDDEN = 480
"""Width of the classifier's hidden layer; mn04 has 512. The engine folds constants of up to 1 MiB only."""


@dataclass(frozen=True)
class Pruned(Config):
    """mn04 with fewer expanded channels."""

    width: float = 0.4
    expanded: tuple[int, ...] = EXPANDED

    @property
    def blocks(self) -> tuple[InvertedResidual, ...]:
        return tuple(replace(block, expanded=e) for block, e in zip(super().blocks, self.expanded, strict=True))

    @property
    def hidden(self) -> int:
        return HIDDEN

    @property
    def name(self) -> str:
        return "mn04-pruned"


def conv_norm(
    channels: int, out: int, kernel: int = 1, stride: int = 1, group: int = 1, activation: str = ""
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(channels, out, kernel, stride, (kernel - 1) // 2, groups=group, bias=False),
        nn.BatchNorm2d(out, eps=BATCHNORM_EPSILON, momentum=0.02),
    ]
    if activation:
        layers.append(nn.ReLU() if activation == "Relu" else nn.Hardswish())
    return nn.Sequential(*layers)


class SqueezeExcite(nn.Module):
    """Multiply each channel by a gate computed from the means of all channels."""

    def __init__(self, block: InvertedResidual) -> None:
        super().__init__()
        layer = nn.Module()
        layer.fc1 = nn.Linear(block.expanded, block.squeezed)
        layer.fc2 = nn.Linear(block.squeezed, block.expanded)
        self.conc_se_layers = nn.ModuleList([layer])

    def forward(self, x: Tensor) -> Tensor:
        layer = self.conc_se_layers[0]
        gate = torch.sigmoid(layer.fc2(torch.relu(layer.fc1(x.mean((2, 3))))))
        return x * gate[:, :, None, None]


class Residual(nn.Module):
    """An inverted residual block."""

    def __init__(self, block: InvertedResidual) -> None:
        super().__init__()
        wide, layers = block.expanded, []
        if block.expands:
            layers.append(conv_norm(block.channels, wide, activation=block.activation))
        layers.append(conv_norm(wide, wide, block.kernel, block.stride, wide, block.activation))
        if block.squeeze:
            layers.append(SqueezeExcite(block))
        layers.append(conv_norm(wide, block.out))
        self.block = nn.Sequential(*layers)
        self.residual = block.residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)
        return x + y if self.residual else y


class Net(nn.Module):
    """Map (batch, 1, 128, time) to logits (batch, 527) and embedding (batch, channels)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        blocks = config.blocks
        first, last = blocks[0].channels, blocks[-1].out
        self.features = nn.Sequential(
            conv_norm(1, first, 3, 2, activation="HardSwish"),
            *map(Residual, blocks),
            conv_norm(last, config.embedding, activation="HardSwish"),
        )
        self.classifier = nn.Sequential(
            nn.Identity(),
            nn.Identity(),
            nn.Linear(config.embedding, config.hidden),
            nn.Hardswish(),
            nn.Identity(),
            nn.Linear(config.hidden, config.classes),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.features(x).mean((2, 3))
        return self.classifier(embedding), embedding

    def with_blocks(self, x: Tensor, blocks: Container[int]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return logits, embedding and the outputs of the given blocks (0: the first convolution)."""
        kept = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in blocks:
                kept.append(x)
        embedding = x.mean((2, 3))
        return self.classifier(embedding), embedding, kept


def loaded(config: Config, state: Mapping[str, Array]) -> Net:
    """Return a network with the weights of a state dict; raise ValueError if one is missing."""
    net = Net(config)
    tensors = {k: torch.from_numpy(np.array(v, np.float32)) for k, v in state.items() if "num_batches" not in k}
    missing = [k for k in net.load_state_dict(tensors, strict=False).missing_keys if "num_batches" not in k]
    if missing:
        raise ValueError(f"the checkpoint lacks {missing[0]}")
    return net


def graph_of(config: Config, net: Net) -> Graph:
    """Return the network as an ONNX graph."""
    state = {k: v.detach().numpy() for k, v in net.state_dict().items()}
    return build(config, lambda name, shape, gain: state[name].reshape(shape))


# -- pruning ----------------------------------------------------------------------------


def choose(weight: Array, gram: Array, keep: int) -> Array:
    """Select the `keep` inputs x from which y = weight · x is best predicted; `gram` is the mean of x · xᵀ.

    Orthogonal matching pursuit: each step takes the input that explains most of the remaining error.
    """
    gram = gram.astype(np.float64) + 1e-6 * np.trace(gram) / len(gram) * np.eye(len(gram))
    cross = weight.astype(np.float64) @ gram
    chosen: list[int] = []
    for _ in range(keep):
        power = np.diag(gram).copy()
        score = (cross**2).sum(0) / np.maximum(power, 1e-12)
        score[chosen] = -1
        best = int(score.argmax())
        chosen.append(best)
        direction = gram[:, best] / np.sqrt(max(power[best], 1e-12))
        cross -= np.outer(cross[:, best] / np.sqrt(max(power[best], 1e-12)), direction)
        gram -= np.outer(direction, direction)
    return np.array(sorted(chosen))


def refit(weight: Array, gram: Array, kept: Array) -> Array:
    """Return the least-squares weight that predicts weight · x from the kept inputs."""
    gram = gram.astype(np.float64) + 1e-4 * np.trace(gram) / len(gram) * np.eye(len(gram))
    target = weight.astype(np.float64) @ gram[:, kept]
    return np.linalg.solve(gram[np.ix_(kept, kept)], target.T).T.astype(np.float32)


def prune(teacher: Net, config: Config, features: Tensor) -> Net:
    """Return a student whose blocks approximate the teacher's on `features` (clips, 1, 128, time)."""
    grams = _grams(teacher, features)
    state = {k: v.numpy() for k, v in teacher.state_dict().items()}
    full = {k: v.shape for k, v in Net(config).state_dict().items()}
    for index, block in enumerate(config.blocks, 1):
        prefix = f"features.{index}.block"
        project = f"{prefix}.{3 if block.squeeze else 2}.0"
        if not block.expands or state[f"{project}.weight"].shape == full[f"{project}.weight"]:
            continue
        weight = state[f"{project}.weight"][:, :, 0, 0]
        kept = choose(weight, grams[project], block.expanded)
        state[f"{project}.weight"] = refit(weight, grams[project], kept)[:, :, None, None]
        for layer in (0, 1):
            for name in ("0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
                state[f"{prefix}.{layer}.{name}"] = state[f"{prefix}.{layer}.{name}"][kept]
        if block.squeeze:
            _prune_gate(state, grams, f"{prefix}.2.conc_se_layers.0", kept, block.squeezed)
    last = state["classifier.5.weight"]
    units = choose(last, grams["classifier.5"], config.hidden)
    state["classifier.5.weight"] = refit(last, grams["classifier.5"], units)
    for name in ("weight", "bias"):
        state[f"classifier.2.{name}"] = state[f"classifier.2.{name}"][units]
    return loaded(config, state)


def _grams(teacher: Net, features: Tensor) -> dict[str, Array]:
    """Return the mean of x · xᵀ over all inputs x of every 1×1 convolution and linear map that is pruned."""
    grams: dict[str, Array] = {}

    def watch(name: str, module: nn.Module) -> None:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].detach()
            rows = (x.permute(0, 2, 3, 1).flatten(0, 2) if x.ndim == 4 else x).double()
            grams[name] = grams.get(name, 0) + (rows.T @ rows).numpy() / len(rows)

        hooks.append(module.register_forward_pre_hook(hook))

    hooks: list[torch.utils.hooks.RemovableHandle] = []
    for name, module in teacher.named_modules():
        pointwise = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)
        if pointwise or name.endswith((".fc1", ".fc2", "classifier.5")):
            watch(name, module)
    with torch.no_grad():
        for part in features.split(16):
            teacher(part)
    for handle in hooks:
        handle.remove()
    return grams


def _prune_gate(state: dict[str, Array], grams: Mapping[str, Array], name: str, kept: Array, squeezed: int) -> None:
    """Prune the squeeze-and-excitation of a block to its kept channels and to `squeezed` hidden units."""
    first, second = state[f"{name}.fc1.weight"], state[f"{name}.fc2.weight"][kept]
    units = choose(second, grams[f"{name}.fc2"], squeezed)
    state[f"{name}.fc2.weight"] = refit(second, grams[f"{name}.fc2"], units)
    state[f"{name}.fc2.bias"] = state[f"{name}.fc2.bias"][kept]
    state[f"{name}.fc1.weight"] = refit(first[units], grams[f"{name}.fc1"], kept)
    state[f"{name}.fc1.bias"] = state[f"{name}.fc1.bias"][units]
