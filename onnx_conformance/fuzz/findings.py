"""A finding as a folder: a model that shows a difference, its inputs, all outputs, and a script to reproduce it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper

from onnx_conformance import reproduce
from onnx_conformance.fuzz.judge import CRASHED, HANGS, REFUSED, SHAPE, TYPE, VALUE
from onnx_conformance.fuzz.referee import Verdict
from onnx_conformance.workers import PASSED
from tinyonnx.files import naming_file

_GENERAL = re.compile(r"""["'][^"']*["']|\([^()]*\)|\d+|^[^:]*: """)
"""Parts of messages that differ between operators."""

_NO_NAME = re.compile(r"[^A-Za-z0-9_.+-]")
"""Characters that a part of a path does not have on every system."""

_NAME = 60
"""Maximum number of characters of a runtime's name in a path."""

_SCRIPT = Path(reproduce.__file__)
"""The script that every finding gets a copy of."""

_MESSAGE = 120
"""Number of characters of a message that distinguish refusals."""

_WHY = {
    VALUE: "The runtime returns other numbers without an error: the model silently gives wrong results.",
    SHAPE: "The runtime returns a result of another shape: later nodes fail or compute something else.",
    TYPE: "The runtime returns another type than the model declares: later nodes fail or convert silently.",
    REFUSED: "The runtime refuses a model that others run.",
    CRASHED: "The process dies: a server that runs models of its users goes down.",
    HANGS: "The run does not end within the time limit.",
}


@dataclass
class Finding:
    """The description of a finding, written as `finding.json`.

    `cause` groups findings: kind, suspects, operators, type and attributes after reduction; the message of a refusal.
    `drawn` has the operators to which the run was limited. `checked` names the sources against which a person has
    verified it.
    """

    cause: str
    kind: str
    suspects: list[str]
    text: str
    operators: list[str]
    types: list[str]
    attributes: list[str]
    opset: dict[str, int]
    nodes: int
    nodes_before: int
    origin: str
    seed: int
    number: int
    groups: list[list[str]]
    messages: dict[str, str]
    versions: dict[str, str]
    count: int = 1
    passes: list[str] = field(default_factory=list)
    drawn: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)

    @property
    def folder(self) -> str:
        """Return a name for the folder, which is the same for the same cause."""
        digest = hashlib.sha256(self.cause.encode()).hexdigest()[:6]
        return "-".join([*map(_file_name, self.suspects[:1]), self.kind, *self.operators[:2], digest])


def _file_name(runtime: str) -> str:
    """Return the name of a runtime as part of a path; commands may have any characters and length."""
    name = _NO_NAME.sub("_", runtime)
    return name if len(name) <= _NAME else f"{name[:_NAME]}_{hashlib.sha256(runtime.encode()).hexdigest()[:6]}"


def message_cause(text: str) -> str:
    """Return the part of a refusal's message that is the same for every operator: its cause."""
    return _GENERAL.sub("", text)[:_MESSAGE]


def describe(
    model: ModelProto, feeds: Mapping[str, Any], verdict: Verdict, versions: Mapping[str, str], **origin: Any
) -> Finding:
    """Return the description of a reduced model.

    `origin` has nodes_before, origin, seed, number, passes and drawn.
    """
    nodes = list(model.graph.node)
    operators = sorted({f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in nodes})
    arrays = [value for value in feeds.values() if isinstance(value, np.ndarray)]
    arrays += [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    types = sorted({str(array.dtype) for array in arrays})
    attributes = sorted({attribute.name for node in nodes for attribute in node.attribute})
    suspects = list(verdict.suspects)
    floats = [name for name in types if "float" in name] or types[:1]
    if verdict.kind == REFUSED:
        where = message_cause(verdict.text)
    else:
        where = f"{'+'.join(operators)} {'+'.join(floats)} {'+'.join(attributes)}"
    cause = f"{verdict.kind} {'+'.join(suspects)} {where}"
    return Finding(
        cause=cause, kind=verdict.kind, suspects=suspects, text=verdict.text, operators=operators, types=types,
        attributes=attributes, opset={o.domain or "ai.onnx": o.version for o in model.opset_import}, nodes=len(nodes),
        groups=[list(group) for group in verdict.groups], versions=dict(versions),
        messages={name: outcome.message for name, outcome in verdict.outcomes.items() if outcome.message}, **origin,
    )  # fmt: skip


def write_finding(
    folder: Path, finding: Finding, model: ModelProto, feeds: Mapping[str, Any], verdict: Verdict
) -> Path:
    """Write a finding below `folder` and return its path. Arrays are in the format of onnx's test data.

    Raises OSError.
    """
    place = folder / finding.folder
    with naming_file(str(place)):
        _write_files(place, finding, model, feeds, verdict)
    return place


def _write_files(place: Path, finding: Finding, model: ModelProto, feeds: Mapping[str, Any], verdict: Verdict) -> None:
    data = place / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    (place / "model.onnx").write_bytes(model.SerializeToString())
    inputs = [value.name for value in model.graph.input]
    for i, name in enumerate(inputs):
        _write_value(data / f"input_{i}.pb", feeds[name], name)
    outputs = {name: outcome.outputs[0] for name, outcome in verdict.outcomes.items()
               if outcome.status == PASSED and outcome.outputs}  # fmt: skip
    names = [value.name for value in model.graph.output]
    trusted = [name for group in verdict.groups[:1] for name in group if name not in finding.suspects]
    for name, values in outputs.items():
        own = place / "outputs" / _file_name(name)
        own.mkdir(parents=True, exist_ok=True)
        for i, (output, value) in enumerate(zip(names, values)):
            _write_value(own / f"output_{i}.pb", value, output)
            if trusted and name == trusted[0]:
                _write_value(data / f"output_{i}.pb", value, output)
    (place / "finding.json").write_text(json.dumps(asdict(finding), indent=1) + "\n", encoding="utf-8")
    (place / "README.md").write_text(_readme(finding, model, outputs, bool(trusted)), encoding="utf-8")
    (place / "reproduce.py").write_bytes(_SCRIPT.read_bytes())


def _write_value(path: Path, value: Any, name: str) -> None:
    if isinstance(value, (list, tuple)) and all(isinstance(item, np.ndarray) for item in value):
        path.write_bytes(numpy_helper.from_list(list(value), name).SerializeToString())
    elif isinstance(value, (np.ndarray, np.generic)):
        if value.dtype == object:  # the reference's strings may be numbers
            strings = [item if isinstance(item, bytes) else str(item) for item in np.ravel(value)]
            value = np.array(strings, object).reshape(np.shape(value))
        path.write_bytes(numpy_helper.from_array(np.asarray(value), name).SerializeToString())


def _readme(finding: Finding, model: ModelProto, outputs: Mapping[str, Any], trusted: bool) -> str:
    lines = [f"# {', '.join(finding.operators)}: {finding.kind}, {', '.join(finding.suspects)}", "", finding.text, ""]
    lines += [_WHY[finding.kind], "", "## Who says what", ""]
    for group in finding.groups:
        doubt = "in doubt" if set(group) & set(finding.suspects) else "agree" if len(group) > 1 else "not in doubt"
        lines.append(f"- {', '.join(_versioned(name, finding.versions) for name in group)}: {doubt}")
    lines += [f"- {_versioned(n, finding.versions)}: {m.splitlines()[0]}" for n, m in finding.messages.items() if m]
    if "reference" in outputs:
        with_it = next((group for group in finding.groups if "reference" in group), ["reference"])
        others = [name for name in with_it if name != "reference"]
        lines += ["", f"With onnx's reference agree: {', '.join(others) or 'none of the others'}."]
    if finding.checked:
        lines += ["", "## Checked", "", *(f"- {line}" for line in finding.checked)]
    lines += ["", "## Model", "", "```", onnx.printer.to_text(model).strip(), "```", ""]
    for name, values in outputs.items():
        lines += [f"{name}:", "", "```", *(_shown(value) for value in values), "```", ""]
    lines += ["## Reproduce it", "", f"    python reproduce.py      # needs onnx and {finding.suspects[0]}", ""]
    if trusted:
        lines += ["`test_data_set_0` has the inputs and the outputs on which the others agree:", "",
                  f"    onnx-conformance backend --folder . --runtime {finding.suspects[0]}", ""]  # fmt: skip
    limits = "".join(f" --operator {name}" for name in finding.drawn)
    lines += [
        f"Found by `onnx-conformance fuzz --seed {finding.seed}{limits}`, number {finding.number}: {finding.origin}."
    ]
    if finding.passes:
        lines += ["", f"Passes of tinyonnx that rewrite it: {', '.join(finding.passes)}."]
    return "\n".join(lines) + "\n"


def _versioned(name: str, versions: Mapping[str, str]) -> str:
    return f"{name} {versions.get(name, '')}".strip()


def _shown(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return str(value)[:400]
    return f"{value.dtype}{list(value.shape)} {np.array2string(value, threshold=40, max_line_width=110)}"
