"""Distillation: the student learns to answer as the teacher does, on views that both see alike.

Every step makes new views of stored spectrograms (mixed, louder, shifted, tilted, masked: all on
the mel spectrogram) and asks the teacher, run by our own engine, about exactly these views; no
label of any data set is used. Beyer et al., Knowledge distillation: a good teacher is patient and
consistent, 2022; masks: Park et al., SpecAugment, 2019.
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
from torch import Tensor, nn

import tinyonnx
from audiotag import labels
from audiotag.features import mel
from audiotag.models.checkpoint import read_checkpoint
from audiotag.models.mobilenet import Config
from audiotag.sound import audio
from conformance import esc10
from models.train.student import Net, Pruned, loaded, prune

Array = np.ndarray[Any, Any]
FLOOR = (math.log(mel.DEFAULT.log_offset) + 4.5) / 5
"""The log-mel value of digital silence."""


@dataclass(frozen=True)
class Plan:
    """Settings of a run."""

    steps: int = 2600
    batch: int = 64
    rate: float = 1.5e-3
    warmup: int = 200
    decay: float = 1e-4
    ema: float = 0.998
    seed: int = 0
    every: int = 250


class Views:
    """Endless batches of views, the teacher's logits and its embeddings."""

    def __init__(self, folder: Path, teacher: Path, plan: Plan, done: int = 0) -> None:
        self.folder, self.plan = folder, plan
        self.rng = np.random.default_rng((plan.seed, done))
        options = tinyonnx.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = tinyonnx.InferenceSession(str(teacher), options)
        self.shards: list[Array] = []

    def refresh(self) -> None:
        """Take shards that came in the meantime."""
        self.shards = [np.load(path, mmap_mode="r") for path in sorted(self.folder.glob("train-*.npy"))]

    def ask(self, x: Array) -> tuple[Array, Array]:
        """The teacher's logits and embeddings of (batch, 128, time)."""
        answers = [self.session.run(["logits", "embedding"], {"melspec": row[None, None]}) for row in x]
        return np.concatenate([a[0] for a in answers]), np.concatenate([a[1] for a in answers])

    def batch(self) -> tuple[Array, Array, Array]:
        """Views (batch, 128, time) float32 with logits and embeddings."""
        size, draw = self.plan.batch, self.rng.random()
        x = self._draw(size)
        if draw < 0.15:  # clips of 10 s
            x = np.concatenate([x[::2], x[1::2]], 2)
        elif draw < 0.25:
            length = int(self.rng.integers(100, 400))
            start = int(self.rng.integers(500 - length))
            x = x[:, :, start : start + length]
        x = np.stack([self._view(row) for row in x])
        return (x, *self.ask(x))

    def _draw(self, count: int) -> Array:
        rows = [self._clip() for _ in range(count)]
        for i in range(count):
            if self.rng.random() < 0.5:
                rows[i] = mixed(rows[i], self._clip(), 10 ** self.rng.uniform(-2, 0.3))
        return np.stack(rows)

    def _clip(self) -> Array:
        shard = self.shards[self.rng.integers(len(self.shards))]
        x = np.roll(shard[self.rng.integers(len(shard))].astype(np.float32), int(self.rng.integers(500)), 1)
        return x

    def _view(self, x: Array) -> Array:
        rng, (bands, frames) = self.rng, x.shape
        if rng.random() < 0.3:
            x = np.roll(x, shift := int(rng.integers(-5, 6)), 0)
            if shift > 0:
                x[:shift] = x[shift]
            elif shift < 0:
                x[shift:] = x[shift - 1]
        if rng.random() < 0.4:
            x = x + (rng.uniform(-0.4, 0.4) * np.linspace(-1, 1, bands, dtype=np.float32))[:, None]
        if rng.random() < 0.5:
            x = x + np.float32(rng.uniform(-0.9, 0.25))
        x = np.maximum(x, np.float32(FLOOR))
        if rng.random() < 0.4:
            for axis, longest in ((0, 20), (1, frames // 8)) * 2:
                width = int(rng.integers(longest + 1))
                start = int(rng.integers(x.shape[axis] - width + 1))
                x[(slice(start, start + width), slice(None))[:: 1 - 2 * axis]] = FLOOR
        return x


def mixed(a: Array, b: Array, gain: float) -> Array:
    """The log-mel of two sounds at once: powers add, if phases are random."""
    return np.maximum(np.log(np.exp(5 * a) + np.float32(gain) * np.exp(5 * b)) / 5, np.float32(FLOOR))


def loss_of(logits: Tensor, embedding: Tensor, teacher: Tensor, features: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Divergence of probabilities, plus squared errors of logits and of embeddings."""
    target = torch.sigmoid(teacher)
    divergence = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    divergence = (
        (divergence - nn.functional.binary_cross_entropy_with_logits(teacher, target, reduction="none")).sum(1).mean()
    )
    error = (logits.clamp_min(-12) - teacher.clamp_min(-12)).square().mean()
    deviation = (embedding - features).square().mean() / features.square().mean()
    total = divergence + 0.5 * error + deviation
    return total, {"divergence": divergence.item(), "logit_error": error.item(), "embedding_error": deviation.item()}


class Judge:
    """Measures a student on held-out clips and on ESC-10's fold 4."""

    def __init__(self, folder: Path, recordings: Path, views: Views) -> None:
        shards = [np.load(path) for path in sorted(folder.glob("held-*.npy"))]
        self.clips = np.concatenate(shards).astype(np.float32)
        self.logits, self.embeddings = views.ask(self.clips)
        self.names = [label.name for label in labels.all_labels()]
        self.fold = [(mel.log_mel(audio.read(p)), label) for p, _, label in esc10.find_clips(recordings, [4])]

    def __call__(self, net: Net) -> dict[str, float]:
        net.eval()
        with torch.no_grad():
            answers = [net(part[:, None]) for part in torch.from_numpy(self.clips).split(50)]
            logits, embedding = (torch.cat([a[i] for a in answers]) for i in (0, 1))
            loss, _ = loss_of(logits, embedding, torch.from_numpy(self.logits), torch.from_numpy(self.embeddings))
            right = 0
            for features, label in self.fold:
                scores = esc10.class_scores(net(torch.from_numpy(features)[None, None])[0][0].numpy(), self.names)
                right += max(scores, key=scores.__getitem__) == label
        agreement = (logits.numpy().argmax(1) == self.logits.argmax(1)).mean()
        return {"held_out_loss": loss.item(), "top1_agreement": float(agreement), "fold4": right / len(self.fold)}


COLUMNS = (
    "step",
    "minutes",
    "rate",
    "loss",
    "divergence",
    "logit_error",
    "embedding_error",
    "held_out_loss",
    "top1_agreement",
    "fold4",
)


def train(work: Path, checkpoint: Path, recordings: Path, plan: Plan, threads: int) -> Net:
    """Prune, distil, and return the student averaged over the last steps; goes on where a run was cut off."""
    torch.manual_seed(plan.seed)
    torch.set_num_threads(threads)
    views = Views(work / "clips", work / "teacher.onnx", plan)
    views.refresh()
    judge = Judge(work / "clips", recordings, views)
    config = Pruned()
    saved = work / "run.pt"
    state = torch.load(saved, weights_only=True) if saved.exists() else None
    if state:
        net = Net(config)
        net.load_state_dict(state["net"])
    else:
        teacher = loaded(Config(0.4), read_checkpoint(checkpoint)).eval()
        clips = np.concatenate([np.roll(views.shards[i][:16], i, 2) for i in range(min(10, len(views.shards)))])
        net = prune(teacher, config, torch.from_numpy(clips[:, None].astype(np.float32)))
    net = net.to(memory_format=torch.channels_last)
    average = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(net.parameters(), plan.rate, weight_decay=plan.decay)
    first = 0
    if state:
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
        views = Views(work / "clips", work / "teacher.onnx", plan, first)
    batches = _ahead(views, first, plan.steps)
    log = work / "log.csv"
    if not state:
        log.write_text(",".join(COLUMNS) + "\n")
    start, sums, count = time.monotonic(), dict.fromkeys(COLUMNS[3:7], 0.0), 0
    if not state:
        print("pruned:", judge(net))
    for step in range(first, plan.steps):
        rate = plan.rate * min(1, (step + 1) / plan.warmup) * 0.5 * (1 + math.cos(math.pi * step / plan.steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        x, logits, embedding = map(torch.from_numpy, batches.get())
        net.train()
        loss, parts = loss_of(*net(x[:, None].contiguous(memory_format=torch.channels_last)), logits, embedding)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        _follow(average, net, min(plan.ema, (step + 1) / (step + 20)))
        for name, value in {"loss": loss.item(), **parts}.items():
            sums[name] += value
        count += 1
        if (step + 1) % plan.every == 0 or step + 1 == plan.steps:
            row = {"step": step + 1, "minutes": (time.monotonic() - start) / 60, "rate": rate}
            row |= {name: value / count for name, value in sums.items()} | judge(average)
            sums, count = dict.fromkeys(sums, 0.0), 0
            with open(log, "a", newline="") as file:
                csv.writer(file).writerow([f"{row[name]:.5g}" for name in COLUMNS])
            state = {"net": net.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step + 1}, saved)
            print(" ".join(f"{name}={row[name]:.4g}" for name in COLUMNS), flush=True)
    return average.eval()


def _follow(average: Net, net: Net, decay: float) -> None:
    with torch.no_grad():
        for old, new in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
            if old.is_floating_point():
                old.lerp_(new, 1 - decay)


def _ahead(views: Views, first: int, steps: int) -> queue.Queue[tuple[Array, Array, Array]]:
    """Batches made in a thread of their own, a few ahead."""
    batches: queue.Queue[tuple[Array, Array, Array]] = queue.Queue(3)

    def work() -> None:
        for step in range(first, steps):
            if (step - first) % 100 == 0:
                views.refresh()
            batches.put(views.batch())

    threading.Thread(target=work, daemon=True).start()
    return batches
