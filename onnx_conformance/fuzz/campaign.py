"""A run of the fuzzer: draw, judge, reduce and store samples; a file with its state lets it be continued."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onnx import ModelProto

from onnx_conformance import ConformanceError
from onnx_conformance.fuzz.coverage import Coverage
from onnx_conformance.fuzz.findings import Finding, describe, message_cause, write_finding
from onnx_conformance.fuzz.judge import HANGS, REFUSED, first_difference
from onnx_conformance.fuzz.referee import Referee, Verdict
from onnx_conformance.fuzz.shrink import shrunk
from onnx_conformance.generate.inference import isolated
from onnx_conformance.generate.sample import Sample
from onnx_conformance.generate.source import SampleSource
from onnx_conformance.runtimes.base import Prepare, Runtime
from onnx_conformance.runtimes.tinyonnx import applied_passes
from onnx_conformance.workers import PASSED, Bench, JobOutcome, ReadVersion, refusal, version_in
from tinyonnx.files import write_text

_REDUCE_SECONDS = 60.0
_PER_CAUSE = 3
"""Maximum number of differences of the same operators or message, kind and suspects that are reduced; further ones are
only counted."""


@dataclass(frozen=True)
class Settings:
    """The settings of a run; `only` names the runtime under test (empty: all of them are)."""

    seed: int
    seconds: float
    folder: Path
    timeout: float = 20.0
    memory: int = 4 << 30
    only: str = ""
    operators: frozenset[str] = frozenset()


@dataclass
class CampaignState:
    """The progress of a run, as it is written to `state.json`."""

    seed: int
    runtimes: list[str]
    only: str = ""
    operators: list[str] = field(default_factory=list)
    number: int = 0
    judged: int = 0
    compared: int = 0
    differences: int = 0
    seconds: float = 0.0
    quick: dict[str, int] = field(default_factory=dict)
    causes: dict[str, dict[str, Any]] = field(default_factory=dict)
    coverage: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def limits(self) -> str:
        """Return the options of a run that a later one must have to go on with it."""
        options = [f"--seed {self.seed}", *(f"--runtime {name}" for name in self.runtimes)]
        options += [f"--only {self.only}"] if self.only else []
        return " ".join([*options, *(f"--operator {name}" for name in self.operators)])


@dataclass(frozen=True)
class AppliedPasses:
    """The job to list the passes of tinyonnx that rewrite a model."""

    model: bytes
    feeds: dict[str, Any]

    def __call__(self, _: Prepare, runtime: Runtime) -> JobOutcome:
        """Run the job in this process."""
        try:
            return JobOutcome(PASSED, outputs=[applied_passes(self.model, self.feeds)])
        except Exception as error:
            return refusal(error, runtime, 0.0)


class Campaign:
    """Runs samples on several runtimes and stores those whose results differ."""

    def __init__(self, runtimes: Sequence[Runtime], settings: Settings, report: Callable[[str], None]) -> None:
        self.runtimes, self.settings, self._report = list(runtimes), settings, report
        self._names = [runtime.name for runtime in runtimes]
        self._versions: dict[str, str] = {}
        self.state = self._read_state()
        self.coverage = Coverage(**self.state.coverage)

    def run(self) -> CampaignState:
        """Run until the time is over. Raises ConformanceError if a runtime can't be started."""
        self.settings.folder.mkdir(parents=True, exist_ok=True)
        source = SampleSource(self.settings.seed, self.settings.operators)
        started, before = time.monotonic(), self.state.seconds
        saved = started
        with isolated(), Bench(self.runtimes, self.settings.timeout, self.settings.memory) as bench:
            versions = bench.run(ReadVersion())
            self._versions = {name: version_in(versions[name]) for name in self._names}
            referee = Referee(bench, self._names)
            try:
                while time.monotonic() - started < self.settings.seconds:
                    number = self.state.number
                    sample = source.draw(number)
                    if sample is not None:
                        self._try(referee, sample, number)
                    self.state.number = number + 1
                    if time.monotonic() - saved > 10:
                        saved = time.monotonic()
                        self.state.seconds = before + saved - started
                        self._save()
                        self._report(self.line())
            finally:
                self.state.seconds = before + time.monotonic() - started
                self._save()
        return self.state

    def line(self) -> str:
        """Return a line with the progress of the run."""
        state = self.state
        return (
            f"{state.number} drawn, {state.judged} run, {state.compared} compared, {state.differences} differences of "
            f"{len(state.causes)} causes; {self.coverage.text()}; {state.seconds:.0f} s"
        )

    def _try(self, referee: Referee, sample: Sample, number: int) -> None:
        verdict = referee.judge(sample.model, sample.feeds)
        if verdict.kind == HANGS:  # a busy machine, and a runtime that compiles
            verdict = referee.judge(sample.model, sample.feeds)
        self.state.judged += 1
        answered = [name for name in self._names if verdict.outcomes[name].status == PASSED]
        if len(answered) > 1:
            self.state.compared += 1
            self.coverage.add(sample.model, sample.feeds)
        passes = self._passes(referee.bench, sample, number, bool(verdict.kind))
        if not verdict.kind or (self.settings.only and self.settings.only not in verdict.suspects):
            return
        where = "+".join(sorted({node.op_type for node in sample.model.graph.node}))
        if verdict.kind == REFUSED:
            where = message_cause(verdict.text)
        quick = f"{verdict.kind} {'+'.join(verdict.suspects)} {where}"
        seen = self.state.quick.get(quick, 0)
        if seen < _PER_CAUSE:
            self._keep(referee, sample, verdict, number, passes)
        # after the reduction, because an interrupted one is done again
        self.state.quick[quick] = seen + 1
        self.state.differences += 1

    def _passes(self, bench: Bench, sample: Sample, number: int, doubtful: bool) -> list[str]:
        """Return the passes that rewrite a graph, for every second graph and for those in doubt."""
        graph = len(sample.model.graph.node) > 1
        if "tinyonnx" not in self._names or not (doubtful or (graph and number // 12 % 2)):
            return []
        outcome = bench.run(AppliedPasses(sample.model.SerializeToString(), sample.feeds), ["tinyonnx"])["tinyonnx"]
        passes = outcome.outputs[0] if outcome.status == PASSED and outcome.outputs else []
        for name in passes:
            self.coverage.passes[name] = self.coverage.passes.get(name, 0) + 1
        return passes

    def _keep(self, referee: Referee, sample: Sample, verdict: Verdict, number: int, passes: list[str]) -> None:
        sound = [name for group in verdict.groups for name in group if name not in verdict.suspects]
        sound += [name for name in self._names if name not in sound and verdict.outcomes[name].status == PASSED]
        values = next((v for n in sound if (v := referee.values(sample.model, sample.feeds, n)) is not None), None)

        tested = self.settings.only or self._names[0]

        def shows(model: Any, feeds: dict[str, Any]) -> bool:
            return verdict.same_fault(referee.judge(model, feeds), tested)

        first = _first_to_differ(sample.model, values, referee.values(sample.model, sample.feeds, verdict.suspects[0]))
        model, feeds = shrunk(sample.model, dict(sample.feeds), values, shows, _REDUCE_SECONDS, first)
        final = referee.judge(model, feeds)
        if not verdict.same_fault(final, tested):
            return
        finding = describe(
            model, feeds, final, self._versions, nodes_before=len(sample.model.graph.node), origin=sample.origin,
            seed=self.settings.seed, number=number, passes=passes, drawn=sorted(self.settings.operators),
        )  # fmt: skip
        known = self.state.causes.get(finding.cause)
        if known is not None:
            known["count"] += 1
            return
        write_finding(self.settings.folder, finding, model, feeds, final)
        self.state.causes[finding.cause] = summary_of(finding)
        self._report(f"{finding.folder}: {finding.text.splitlines()[0][:160]}")

    # -- state ------------------------------------------------------------------------------

    def _read_state(self) -> CampaignState:
        path = self.settings.folder / "state.json"
        new = CampaignState(self.settings.seed, self._names, self.settings.only, sorted(self.settings.operators))
        if not path.exists():
            return new
        try:
            state = CampaignState(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ConformanceError(f"{path} is not the state of a run: {error}") from error
        if state.limits != new.limits:
            raise ConformanceError(f"{path} is of a run with {state.limits}; choose another --output")
        return state

    def _save(self) -> None:
        self.state.coverage = asdict(self.coverage)
        text = json.dumps(asdict(self.state), indent=1, sort_keys=True)
        write_text(str(self.settings.folder / "state.json"), text + "\n")


def _first_to_differ(model: ModelProto, sound: dict[str, Any] | None, doubtful: dict[str, Any] | None) -> list[int]:
    """Return the positions of nodes whose results differ between two runs, in order."""
    if sound is None or doubtful is None or len(model.graph.node) < 2:
        return []
    found = []
    for i, node in enumerate(model.graph.node):
        names = [name for name in node.output if name in sound and name in doubtful]
        if first_difference([sound[name] for name in names], [doubtful[name] for name in names], []):
            found.append(i)
    return found


def summary_of(finding: Finding) -> dict[str, Any]:
    """Return the part of a finding that the state stores."""
    return {
        "folder": finding.folder, "kind": finding.kind, "suspects": finding.suspects, "operators": finding.operators,
        "nodes": finding.nodes, "text": finding.text[:300], "count": 1,
    }  # fmt: skip
