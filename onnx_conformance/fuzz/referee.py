"""Run a model on several runtimes and decide whether one of them is in doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from onnx import ModelProto, ValueInfoProto

from onnx_conformance.fuzz.coverage import all_nodes
from onnx_conformance.fuzz.judge import CRASHED, HANGS, REFUSED, Difference, first_difference, groups
from onnx_conformance.fuzz.rounding import with_noise
from onnx_conformance.workers import CRASHED as DIED
from onnx_conformance.workers import FAILED, PASSED, TIMED_OUT, Bench, JobOutcome, RunModel

_STEADY = ("onnxruntime-disabled", "reference", "tinyonnx-unfused", "onnxruntime", "openvino")
"""Runtimes in which rounding is measured, those that run node by node first."""

_NOISY_RUNS = 4

RANDOM = frozenset({"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli",
                    "Multinomial", "Dropout"})  # fmt: skip
"""Operators whose results are random: only types and shapes are compared."""


@dataclass(frozen=True)
class Verdict:
    """The result of a model on all runtimes.

    `kind` is empty if there is no doubt. `suspects` are the runtimes outside the largest group that agrees, or all
    runtimes if no two agree.
    """

    kind: str
    suspects: tuple[str, ...]
    text: str
    outcomes: Mapping[str, JobOutcome]
    groups: Sequence[Sequence[str]]

    def same_fault(self, other: Verdict) -> bool:
        """Return whether another verdict has the same kind of doubt about the same runtimes."""
        return self.kind == other.kind and set(self.suspects) == set(other.suspects)


class Referee:
    """Judges models by running them on several runtimes."""

    def __init__(self, bench: Bench, names: Sequence[str]) -> None:
        self.bench, self.names = bench, list(names)

    def judge(self, model: ModelProto, feeds: Mapping[str, Any]) -> Verdict:
        """Return the verdict on a model with these inputs."""
        job = RunModel(model.SerializeToString(), [dict(feeds)])
        outcomes = self.bench.run(job)
        late = [name for name in self.names if outcomes[name].status == TIMED_OUT]
        if late and len(late) < len(self.names):  # a compiler may have taken the time and left its result in a cache
            outcomes |= self.bench.run(job, late)
        for status, kind in ((DIED, CRASHED), (TIMED_OUT, HANGS)):
            dead = tuple(name for name in self.names if outcomes[name].status == status)
            if len(dead) == len(self.names):  # the model does not end
                return Verdict("", (), "", outcomes, [])
            if dead:
                return Verdict(kind, dead, f"{dead[0]}: {outcomes[dead[0]].message[:300]}", outcomes, [])
        answered = [name for name in self.names if outcomes[name].status == PASSED]
        if len(answered) < 2:
            return Verdict("", (), "", outcomes, [answered] if answered else [])
        found = self._differences(model, feeds, {name: _first(outcomes[name]) for name in answered})
        together = groups(answered, {pair: difference is None for pair, difference in found.items()})
        real = [difference for difference in found.values() if difference is not None]
        if real:
            suspects = _outside(together)
            pair = next(p for p, d in found.items() if d is not None and (set(p) & set(suspects)))
            difference = found[pair]
            assert difference is not None
            sides = " against ".join(name for name in self.names if name in pair)
            return Verdict(difference.kind, suspects, f"{sides}: {difference.text}", outcomes, together)
        refusing = tuple(name for name in self.names if outcomes[name].status == FAILED)
        if refusing:
            return Verdict(REFUSED, refusing, f"{refusing[0]}: {outcomes[refusing[0]].message}", outcomes, together)
        return Verdict("", (), "", outcomes, together)

    def _differences(
        self, model: ModelProto, feeds: Mapping[str, Any], outputs: Mapping[str, list[Any]]
    ) -> dict[frozenset[str], Difference | None]:
        drawn = any(node.op_type in RANDOM for node in all_nodes(model.graph))
        if drawn:
            outputs = {name: [_blank(value) for value in values] for name, values in outputs.items()}
        pairs = [frozenset(pair) for pair in combinations(outputs, 2)]
        found = {pair: _compared(pair, outputs, []) for pair in pairs}
        if any(found.values()) and not drawn:
            noisy = self._noisy(model, feeds, list(outputs))
            found = {pair: _compared(pair, outputs, noisy) if found[pair] else None for pair in pairs}
        return found

    def _noisy(self, model: ModelProto, feeds: Mapping[str, Any], answered: Sequence[str]) -> list[list[Any]]:
        """Return outputs of one runtime without noise, then with; empty if it can't run the model with noise."""
        for steady in (*(name for name in _STEADY if name in answered), answered[-1]):
            values = self.values(model, feeds, steady)
            if values is None:
                continue
            runs = [[values.get(output.name) for output in model.graph.output]]
            for seed in range(_NOISY_RUNS):
                noisy = with_noise(model, values, np.random.default_rng(seed), scales=seed % 2 == 1)
                outcome = self.bench.run(RunModel(noisy.SerializeToString(), [dict(feeds)]), [steady])[steady]
                if outcome.status == PASSED:
                    runs.append(_first(outcome))
            if len(runs) > 1:
                return runs
        return []

    def values(self, model: ModelProto, feeds: Mapping[str, Any], name: str) -> dict[str, Any] | None:
        """Return every tensor of a run on one runtime, inputs included; None if it can't show them."""
        exposed = ModelProto()
        exposed.CopyFrom(model)
        outputs = {value.name for value in model.graph.output}
        for node in model.graph.node:
            for output in node.output:
                if output and output not in outputs:
                    exposed.graph.output.append(ValueInfoProto(name=output))
        outcome = self.bench.run(RunModel(exposed.SerializeToString(), [dict(feeds)]), [name])[name]
        if outcome.status != PASSED:
            return None
        return {**feeds, **dict(zip((value.name for value in exposed.graph.output), _first(outcome)))}


def _first(outcome: JobOutcome) -> list[Any]:
    assert outcome.outputs is not None
    return outcome.outputs[0]


def _compared(pair: frozenset[str], outputs: Mapping[str, list[Any]], noisy: list[list[Any]]) -> Difference | None:
    ours, others = (outputs[name] for name in outputs if name in pair)
    return first_difference(ours, others, noisy)


def _blank(value: Any) -> Any:
    return np.zeros_like(value) if isinstance(value, np.ndarray) and value.dtype.kind not in "OUS" else value


def _outside(together: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the runtimes outside the largest group, or all if no two agree."""
    if len(together[0]) == 1 or (len(together) > 1 and len(together[0]) == len(together[1])):
        return tuple(name for group in together for name in group)
    return tuple(name for group in together[1:] for name in group)
