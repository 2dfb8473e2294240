"""Distillation: the student learns the teacher's answers and feature maps on the same views of unlabelled clips.

Every step makes new views of stored spectrograms (mixed, louder, shifted, tilted, masked) and asks the teacher, run
by tinyonnx, about exactly these views; no label of any data set is used. Batch normalisation keeps the teacher's
statistics. Beyer et al., Knowledge distillation: a good teacher is patient and consistent, 2022; Romero et al.,
FitNets, 2015; masks: Park et al., SpecAugment, 2019.
"""

from __future__ import annotations

import copy
import csv
import math
import queue
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor, nn

import tinyonnx
from audiotag.features import mel
from audiotag.models.checkpoint import read_checkpoint
from audiotag.models.mobilenet import Config
from models.train.clips import edge
from models.train.heldout import HeldOut, agreement
from models.train.student import Net, Pruned, loaded, prune

Array = np.ndarray[Any, Any]
FLOOR = (math.log(mel.DEFAULT.log.offset) + 4.5) / 5
"""The log-mel value of digital silence."""

Batch = tuple[Tensor, list[Tensor]]
"""Views (batch, 1, 128, time), and the teacher's logits, embeddings and feature maps."""

BLOCKS = (3, 6, 10, 12, 13, 15)
"""Blocks whose outputs are compared."""


@dataclass(frozen=True)
class Plan:
    """Settings of a run; `frames` is the number of spectrogram frames in a batch."""

    steps: int = 3800
    frames: int = 5000
    most: int = 48
    rate: float = 1.5e-4
    warmup: int = 50
    cooldown: float = 0.9
    decay: float = 1e-4
    ema: float = 0.997
    seed: int = 0
    every: int = 100

    def rate_at(self, step: int) -> float:
        """Return the learning rate: linear warm-up, constant, linear decay to zero over the last share `cooldown`."""
        falling = (self.steps - step) / (self.cooldown * self.steps)
        return self.rate * min(1.0, (step + 1) / self.warmup, falling)


class Clips:
    """The training clips on disk in order of their length."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.refresh()

    def refresh(self) -> None:
        """Include shards written since the last call."""
        paths = sorted(path for path in self.folder.glob("*.npy") if ".lengths" not in path.name)
        self.shards = [np.load(path, mmap_mode="r") for path in paths]
        lengths = [np.load(path.with_suffix(".lengths.npy")) for path in paths]
        rows = [
            (length, shard, start)
            for shard, own in enumerate(lengths)
            for length, start in zip(own, np.cumsum(own) - own, strict=True)
        ]
        self.index = np.array(sorted(rows), dtype=np.int64)

    def alike(self, rng: np.random.Generator, plan: Plan) -> Array:
        """Return clips of about one length, cut to the shortest of them: (batch, 128, time) float32."""
        at = int(rng.integers(len(self.index)))
        count = int(np.clip(plan.frames // self.index[at, 0], 4, plan.most))
        first = max(0, min(at - count, len(self.index) - 2 * count))
        near = self.index[first : first + 2 * count]
        rows = near[np.sort(rng.permutation(len(near))[:count])]
        frames = int(rows[:, 0].min())
        clips = []
        for length, shard, start in rows.tolist():
            start += int(rng.integers(length - frames + 1))
            clips.append(self.shards[shard][start : start + frames].T)
        return np.stack(clips).astype(np.float32)


class Views:
    """Endless batches of views of the training clips."""

    def __init__(self, clips: Clips, plan: Plan, done: int = 0) -> None:
        self.clips, self.plan = clips, plan
        self.rng = np.random.default_rng((plan.seed, done))

    def batch(self) -> Array:
        """Return views of one length, (batch, 128, time) float32."""
        rng = self.rng
        if rng.random() < 0.14:
            return self.edges(160 * 6000 ** rng.random())
        x = self.clips.alike(rng, self.plan)
        frames = x.shape[2]
        if frames > 60 and (draw := rng.random()) < 0.45:
            frames = int(np.exp(rng.uniform(np.log(2 if draw < 0.05 else 30), np.log(frames))))
        frames = frames if frames < 8 else frames // 4 * 4
        start = int(rng.integers(x.shape[2] - frames + 1)) if rng.random() < 0.5 else 0
        x = x[:, :, start : start + frames]
        return np.stack([self._view(x, i) for i in range(len(x))])

    def short(self) -> Array:
        """Return silence, noise floors, hum and clicks of 5 to 400 ms: at most 41 frames."""
        return self.edges(self.rng.uniform(160, 12800))

    def edges(self, samples: float) -> Array:
        """Return silence, noise floors, hum and clicks of about the given length, (batch, 128, time) float32."""
        n = next_fast_len(int(samples))
        count = int(np.clip(self.plan.frames * 320 // n, 4, self.plan.most // 2))
        return np.stack([mel.log_mel(edge(self.rng, n).astype(np.float32)) for _ in range(count)])

    def _view(self, batch: Array, index: int) -> Array:
        rng, x = self.rng, batch[index]
        bands, frames = x.shape
        if rng.random() < 0.25:
            x = mixed(x, batch[rng.integers(len(batch))], 10 ** rng.uniform(-2, 0.3))
        if rng.random() < 0.1:
            x = np.roll(x, shift := int(rng.integers(-5, 6)), 0)
            if shift > 0:
                x[:shift] = x[shift]
            elif shift < 0:
                x[shift:] = x[shift - 1]
        if rng.random() < 0.2:
            x = x + (rng.uniform(-0.4, 0.4) * np.linspace(-1, 1, bands, dtype=np.float32))[:, None]
        if rng.random() < 0.25:
            x = x + np.float32(rng.uniform(-0.9, 0.25))
        x = np.maximum(x, np.float32(FLOOR))
        if rng.random() < 0.1:
            for axis, longest in ((0, 20), (1, frames // 8)):
                width = int(rng.integers(longest + 1))
                start = int(rng.integers(x.shape[axis] - width + 1))
                x[(slice(start, start + width), slice(None))[:: 1 - 2 * axis]] = FLOOR
        return x


def mixed(a: Array, b: Array, gain: float) -> Array:
    """Return the log-mel of two sounds played together: powers add if phases are random."""
    return np.maximum(np.log(np.exp(5 * a) + np.float32(gain) * np.exp(5 * b)) / 5, np.float32(FLOOR))


class Teacher:
    """The teacher's answers, by tinyonnx on one thread."""

    def __init__(self, path: Path) -> None:
        options = tinyonnx.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = tinyonnx.InferenceSession(str(path), options)
        self.names = ["logits", "embedding", *(f"features.{block}" for block in BLOCKS)]

    def __call__(self, x: Array) -> list[Tensor]:
        """Return logits, embeddings and the outputs of BLOCKS for (batch, 128, time)."""
        answers = [self.session.run(self.names, {"melspec": row[None, None]}) for row in x]
        return [torch.from_numpy(np.concatenate(parts)) for parts in zip(*answers, strict=True)]


def loss_of(ours: list[Tensor], theirs: list[Tensor]) -> tuple[Tensor, dict[str, float]]:
    """Return the loss and its parts: divergence of probabilities, errors of logits, embedding and feature maps.

    A clip's error d counts as log(1 + d): clips of a few frames, on which networks differ by orders of magnitude more,
    would outweigh all others.
    """
    logits, teacher = ours[0], theirs[0]
    entropy = nn.functional.binary_cross_entropy_with_logits
    target = torch.sigmoid(teacher)
    excess = entropy(logits, target, reduction="none") - entropy(teacher, target, reduction="none")
    divergence = excess.sum(1).log1p().mean()
    error = (logits.clamp_min(-10) - teacher.clamp_min(-10)).square().mean(1).log1p().mean()
    embedding, *maps = [_relative(a, b) for a, b in zip(ours[1:], theirs[1:], strict=True)]
    features = torch.stack(maps).mean()
    total = 2 * divergence + 0.5 * error + embedding + features
    parts = {"divergence": divergence, "logit_error": error, "embedding_error": embedding, "feature_error": features}
    return total, {name: value.item() for name, value in parts.items()}


def _relative(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the squared error of each clip relative to the teacher's power, compressed and averaged."""
    error, power = (ours - theirs).flatten(1).square().mean(1), theirs.flatten(1).square().mean(1)
    return (error / (power + 1e-3)).log1p().mean()


PARTS = ("short_loss", "loss", "divergence", "logit_error", "embedding_error", "feature_error")
COLUMNS = ("step", "minutes", "rate", *PARTS, "held_out_agreement", "held_out_difference")


def start(clips: Clips, checkpoint: Path, seed: int) -> Net:
    """Return the student before training, pruned on 2.5 s of each of 500 training clips."""
    rng = np.random.default_rng(seed)
    teacher = loaded(Config(0.4), read_checkpoint(checkpoint)).eval()
    near = clips.index[np.searchsorted(clips.index[:, 0], 250) :]
    rows = near[rng.permutation(len(near))[:500]]
    features = np.stack([clips.shards[shard][at : at + 250].T for _, shard, at in rows.tolist()])
    return prune(teacher, Pruned(), torch.from_numpy(features[:, None].astype(np.float32))).eval()


def train(work: Path, checkpoint: Path, held_out: HeldOut, plan: Plan, threads: int) -> None:
    """Prune and distil, with a snapshot every `plan.every` steps; continues an interrupted run."""
    torch.manual_seed(plan.seed)
    torch.set_num_threads(threads)
    clips, teacher = Clips(work / "clips"), Teacher(work / "teacher.onnx")
    saved, log = work / "run.pt", work / "log.csv"
    state = torch.load(saved, weights_only=True) if saved.exists() else None
    net = Net(Pruned()).eval() if state else start(clips, checkpoint, plan.seed)
    first = 0
    if state:
        net.load_state_dict(state["net"])
    net = net.to(memory_format=torch.channels_last)
    average = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(net.parameters(), plan.rate, weight_decay=plan.decay)
    if state:
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    else:
        log.write_text(",".join(COLUMNS) + "\n")
        print("before training:", agreement(net, held_out), flush=True)
    batches = _ahead(Views(clips, plan, first), teacher, plan.steps - first)
    began, sums, count = time.monotonic(), dict.fromkeys(PARTS, 0.0), 0
    for step in range(first, plan.steps):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate_at(step)
        batch, shorts = batches.get()
        gradients = []
        for short in shorts:
            sums["short_loss"] += _gradient(net, short, 2.0)[0] / len(shorts)
            gradients.append([parameter.grad for parameter in net.parameters()])
        total, parts = _gradient(net, batch, 5.0)
        for parameter, *others in zip(net.parameters(), *gradients, strict=True):
            parameter.grad += sum(others)
        optimizer.step()
        _follow(average, net, min(plan.ema, (step + 1) / (step + 20)))
        for name, value in {"loss": total, **parts}.items():
            sums[name] += value
        count += 1
        if (step + 1) % plan.every == 0 or step + 1 == plan.steps:
            row: dict[str, float] = {"step": step + 1, "minutes": (time.monotonic() - began) / 60}
            row["rate"] = plan.rate_at(step)
            row |= {name: value / count for name, value in sums.items()} | agreement(average, held_out)
            sums, count = dict.fromkeys(sums, 0.0), 0
            with open(log, "a", newline="") as file:
                csv.writer(file).writerow([f"{row[name]:.5g}" for name in COLUMNS])
            state = {"net": net.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step + 1}, saved.with_suffix(".part"))
            saved.with_suffix(".part").rename(saved)
            print(" ".join(f"{name}={row[name]:.4g}" for name in COLUMNS), flush=True)


def snapshot(work: Path) -> tuple[Net, int]:
    """Return the student of the last snapshot, averaged over the last steps, and the number of its step."""
    state = torch.load(work / "run.pt", weights_only=True)
    net = Net(Pruned()).eval()
    net.load_state_dict(state["average"])
    return net, state["step"]


def _gradient(net: Net, batch: Batch, limit: float) -> tuple[float, dict[str, float]]:
    """Set the gradients, scaled to a norm of at most `limit`, and return the loss and its parts."""
    x, theirs = batch
    logits, embedding, maps = net.with_blocks(x, BLOCKS)
    loss, parts = loss_of([logits, embedding, *maps], theirs)
    net.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), limit)
    return loss.item(), parts


def _follow(average: Net, net: Net, decay: float) -> None:
    with torch.no_grad():
        for old, new in zip(average.parameters(), net.parameters(), strict=True):
            old.lerp_(new, 1 - decay)


def _ahead(views: Views, teacher: Teacher, steps: int) -> queue.Queue[tuple[Batch, list[Batch]]]:
    """Return a queue filled by a thread: for each step a batch, and four of at most 41 frames, with the answers.

    Networks differ most on so few frames, where padding dominates; such batches cost little.
    """
    batches: queue.Queue[tuple[Batch, list[Batch]]] = queue.Queue(3)

    def ask(x: Array) -> Batch:
        return torch.from_numpy(x[:, None]).contiguous(memory_format=torch.channels_last), teacher(x)

    def work() -> None:
        for step in range(steps):
            if step % 100 == 99:
                views.clips.refresh()
            batches.put((ask(views.batch()), [ask(views.short()) for _ in range(4)]))

    threading.Thread(target=work, daemon=True).start()
    return batches
