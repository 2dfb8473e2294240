"""Run a model on several runtimes and decide whether one of them is in doubt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from onnx import ModelProto, ValueInfoProto

from onnx_conformance.fuzz.flatten import without_subgraphs
from onnx_conformance.fuzz.judge import (
    CRASHED,
    HANGS,
    REFUSED,
    SHAPE,
    TYPE,
    VALUE,
    Difference,
    first_difference,
    groups,
    is_off,
)
from onnx_conformance.fuzz.rounding import with_noise
from onnx_conformance.fuzz.undefined import Open, open_results, settled
from onnx_conformance.fuzz.widen import in_float32, slack
from onnx_conformance.generate.inference import inferred, with_values
from onnx_conformance.generate.validity import all_nodes, with_bodies
from onnx_conformance.workers import CRASHED as DIED
from onnx_conformance.workers import FAILED, PASSED, TIMED_OUT, Bench, JobOutcome, RunModel

_STEADY = ("onnxruntime-disabled", "reference", "tinyonnx-unfused", "onnxruntime", "openvino")
"""Runtimes in which rounding is measured, those that run node by node first."""

_NOISY_RUNS = 8

_OF_RESULTS = (VALUE, SHAPE, TYPE, REFUSED)
"""Kinds of differences that a model which is not valid explains; none explains a crash."""

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

    def same_fault(self, other: Verdict, tested: str = "") -> bool:
        """Return whether another verdict is of the same kind and suspects no others; `tested` stays a suspect."""
        if self.kind != other.kind or not set(other.suspects) <= set(self.suspects):
            return False
        return tested not in self.suspects or tested in other.suspects


class Referee:
    """Judges models by running them on several runtimes."""

    def __init__(self, bench: Bench, names: Sequence[str]) -> None:
        self.bench, self.names = bench, list(names)

    def judge(self, model: ModelProto, feeds: Mapping[str, Any]) -> Verdict:
        """Return the verdict on a model with these inputs; without doubt if they break a rule of the specification."""
        verdict = self._verdict(model, feeds)
        if verdict.kind in _OF_RESULTS and self._breaks_a_rule(model, feeds, verdict):
            return Verdict("", (), "", verdict.outcomes, [])
        return verdict

    def _breaks_a_rule(self, model: ModelProto, feeds: Mapping[str, Any], verdict: Verdict) -> bool:
        """Return whether values of inputs are not valid, or open results or inferred sizes explain a refusal."""
        try:
            known = with_values(model, feeds).graph
            for flat, inputs in _flat_models(model, feeds):
                with_values(flat, inputs)
        except ValueError:
            return True
        if verdict.kind != REFUSED or not verdict.groups:
            return False
        answered = verdict.groups[0]
        values = self.values(model, feeds, answered[0]) or {}
        if open_results(model, values, lambda alone, inputs: self._run_any(alone, inputs, answered)):
            return True
        return any(_contradicts(value, values.get(value.name)) for value in (*known.value_info, *known.output))

    def _verdict(self, model: ModelProto, feeds: Mapping[str, Any]) -> Verdict:
        job = RunModel(model.SerializeToString(), [dict(feeds)])
        outcomes = self.bench.run(job)
        late = [name for name in self.names if outcomes[name].status == TIMED_OUT]
        if late and len(late) < len(self.names):  # a compiler may have taken the time and left its result in a cache
            outcomes |= self.bench.run(job, late)
        for status, kind in ((DIED, CRASHED), (TIMED_OUT, HANGS)):
            dead = tuple(name for name in self.names if outcomes[name].status == status)
            if len(dead) == len(self.names):  # the model does not end
                return Verdict("", (), "", outcomes, [])
            if dead and (kind == CRASHED or any(outcome.status == PASSED for outcome in outcomes.values())):
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
            verdict = Verdict(difference.kind, suspects, f"{sides}: {difference.text}", outcomes, together)
            return self._in_float32(model, feeds, verdict) if difference.kind == VALUE else verdict
        refusing = tuple(name for name in self.names if outcomes[name].status == FAILED)
        if refusing:
            return Verdict(REFUSED, refusing, f"{refusing[0]}: {outcomes[refusing[0]].message}", outcomes, together)
        return Verdict("", (), "", outcomes, together)

    def _in_float32(self, model: ModelProto, feeds: Mapping[str, Any], verdict: Verdict) -> Verdict:
        """Return the verdict on numbers in light of the same model in float32, which more runtimes may run.

        If they differ there, too, those in doubt there are. If all agree there, those in doubt are the ones that are
        further from these numbers than the rounding of the type explains; without any there is no doubt.
        """
        wide = in_float32(model, feeds)
        if wide is None:
            return verdict
        again = self.judge(*wide)
        if again.kind and again.kind != REFUSED:
            return _narrowed(verdict, again.suspects, "the same in float32")
        if not again.groups or len(again.groups[0]) < 2:
            return verdict
        agreed = again.groups[0]
        truth, limits = _first(again.outcomes[agreed[0]]), slack(model, feeds)
        answered = [name for group in verdict.groups for name in group]
        off = tuple(name for name in answered if is_off(_first(verdict.outcomes[name]), truth, *limits))
        if not off:
            return Verdict("", (), "", verdict.outcomes, [answered])
        return _narrowed(verdict, off, f"in float32 {', '.join(agreed)} agree")

    def _differences(
        self, model: ModelProto, feeds: Mapping[str, Any], outputs: Mapping[str, list[Any]]
    ) -> dict[frozenset[str], Difference | None]:
        drawn = any(node.op_type in RANDOM for node in all_nodes(model.graph))
        if drawn:
            outputs = {name: [_blank(value) for value in values] for name, values in outputs.items()}
        pairs = [frozenset(pair) for pair in combinations(outputs, 2)]
        found = {pair: _compared(pair, outputs, []) for pair in pairs}
        if any(found.values()) and not drawn:
            noisy, opened = self._noisy(model, feeds, list(outputs))
            names = [output.name for output in model.graph.output]
            outputs = {name: _settled(values, names, opened) for name, values in outputs.items()}
            found = {pair: _compared(pair, outputs, noisy) if found[pair] else None for pair in pairs}
        return found

    def _noisy(
        self, model: ModelProto, feeds: Mapping[str, Any], answered: Sequence[str]
    ) -> tuple[list[list[Any]], list[dict[str, Open]]]:
        """Return outputs of one runtime without noise, then with, and what is open of them.

        Both are empty if no runtime can run the model with noise.
        """
        for steady in (*(name for name in _STEADY if name in answered), answered[-1]):
            values = self.values(model, feeds, steady)
            if values is None:
                continue
            runs = [[values.get(output.name) for output in model.graph.output]]
            names = [steady, *(name for name in answered if name != steady)]
            noisy, found = self._noisy_runs(model, feeds, values, names)
            runs, opened = [*runs, *noisy], [found]
            body = with_bodies(model)
            inner = self.values(body, feeds, steady) if len(body.graph.node) > len(model.graph.node) else None
            if inner is not None:
                noisy, found = self._noisy_runs(body, feeds, inner, [steady])
                runs += [[inner.get(output.name) for output in model.graph.output], *noisy]
                opened.append(found)
            for flat, inputs in _flat_models(model, feeds):
                noisy, found = self._noisy_runs_alone(flat, inputs, steady, runs[0])
                runs += noisy
                opened.append(found)
            if len(runs) > 1:
                return runs, opened
        return [], []

    def _noisy_runs_alone(
        self, model: ModelProto, feeds: Mapping[str, Any], name: str, results: Sequence[Any]
    ) -> tuple[list[list[Any]], dict[str, Open]]:
        """Return outputs of a subgraph's nodes with noise, repeated as a Loop stacks them, if they fit `results`."""
        values = self.values(model, feeds, name)
        if values is None:
            return [], {}
        noisy, found = self._noisy_runs(model, feeds, values, [name])
        runs = []
        for run in noisy:
            try:
                runs.append([np.broadcast_to(x, np.shape(y)) for x, y in zip(run, results, strict=True)])
            except ValueError:
                continue
        return runs, found

    def _noisy_runs(
        self, model: ModelProto, feeds: Mapping[str, Any], values: Mapping[str, Any], names: Sequence[str]
    ) -> tuple[list[list[Any]], dict[str, Open]]:
        """Return outputs of the first runtime with noise, and the open results, which need a run on any of them."""
        found = open_results(model, values, lambda alone, inputs: self._run_any(alone, inputs, names))
        runs = []
        for seed in range(_NOISY_RUNS):
            noisy = with_noise(model, values, np.random.default_rng(seed), seed % 2 == 1, found, seed > 1)
            outcome = self.bench.run(RunModel(noisy.SerializeToString(), [dict(feeds)]), names[:1])[names[0]]
            if outcome.status == PASSED:
                runs.append(_first(outcome))
        return runs, found

    def _run_any(self, model: ModelProto, feeds: Mapping[str, Any], names: Sequence[str]) -> list[Any] | None:
        """Return the outputs of the first of these runtimes that can run a model, None if none can."""
        for name in names:
            outcome = self.bench.run(RunModel(model.SerializeToString(), [dict(feeds)]), [name])[name]
            if outcome.status == PASSED:
                return _first(outcome)
        return None

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


def _flat_models(model: ModelProto, feeds: Mapping[str, Any]) -> Iterator[tuple[ModelProto, dict[str, Any]]]:
    """Yield the valid models in which a subgraph's nodes are among the others, with their inputs."""
    for flat in without_subgraphs(model):
        try:
            typed = inferred(flat)
        except ValueError:
            continue
        yield typed, {value.name: feeds[value.name] for value in typed.graph.input if value.name in feeds}


def _contradicts(value: ValueInfoProto, found: Any) -> bool:
    """Return whether an array has another shape than a value declares."""
    kind = value.type.tensor_type
    if not isinstance(found, np.ndarray) or not kind.HasField("shape"):
        return False
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
    return len(sizes) != found.ndim or any(size not in (None, n) for size, n in zip(sizes, found.shape, strict=True))


def _narrowed(verdict: Verdict, suspects: Sequence[str], why: str) -> Verdict:
    """Return a verdict with fewer suspects, those without doubt first; the same if these are not fewer."""
    if not set(suspects) < set(verdict.suspects):
        return verdict
    together = sorted(verdict.groups, key=lambda group: bool(set(group) & set(suspects)))
    return replace(verdict, suspects=tuple(suspects), groups=together, text=f"{verdict.text} ({why})")


def _first(outcome: JobOutcome) -> list[Any]:
    assert outcome.outputs is not None
    return outcome.outputs[0]


def _settled(outputs: Sequence[Any], names: Sequence[str], opened: Sequence[Mapping[str, Open]]) -> list[Any]:
    """Return outputs of a model with these names in which open elements within their bounds are the same."""
    results = []
    for name, result in zip(names, outputs, strict=True):
        for found in opened:
            result = settled(result, found[name]) if name in found else result
        results.append(result)
    return results


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
