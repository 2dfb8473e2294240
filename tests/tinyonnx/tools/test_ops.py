from __future__ import annotations

import json

import onnx
import pytest
from onnx.defs import get_schema

import tinyonnx.ops  # noqa: F401, registers the operators
from tinyonnx.cli import main
from tinyonnx.registry import registered
from tinyonnx.tools.operators import list_operators


def test_versions_are_the_ones_of_the_standard():
    found = {(operator.domain, operator.name): operator for operator in list_operators()}
    softmax = found["ai.onnx", "Softmax"]
    assert (softmax.versions, softmax.missing, softmax.standard) == ([1, 11, 13], [], True)
    for operator in found.values():
        if operator.standard:
            domain = "" if operator.domain == "ai.onnx" else operator.domain
            for version in (*operator.versions, *operator.missing):
                assert get_schema(operator.name, version, domain).since_version == version


def test_every_registered_operator_is_listed_and_no_fused_one():
    registry = {(op.domain or "ai.onnx", op.name) for op in registered() if op.domain != "tinyonnx"}
    assert {(o.domain, o.name) for o in list_operators() if o.versions} == registry


def test_what_is_missing(monkeypatch):
    import tinyonnx.tools.operators as module

    monkeypatch.setattr(module, "_standard_versions", lambda: {("ai.onnx", "Nowhere"): {1, 7}, ("ai.onnx", "Abs"): {1}})
    found = {operator.name: operator for operator in list_operators("ai.onnx")}
    assert (found["Nowhere"].versions, found["Nowhere"].missing) == ([], [1, 7])
    assert found["Abs"].missing == []


def test_text(capsys):
    assert main(["ops", "--domain", "ai.onnx.ml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "ai.onnx.ml LabelEncoder 1 2 4" in lines
    assert not any(line.startswith("ai.onnx ") for line in lines)
    assert ["ai.onnx.ml", "19", "19"] in [line.split() for line in lines]


def test_json(capsys):
    assert main(["ops", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["onnx"] == onnx.__version__
    (add,) = [o for o in data["operators"] if (o["domain"], o["name"]) == ("ai.onnx", "Add")]
    assert add == {
        "domain": "ai.onnx", "name": "Add", "versions": [1, 6, 7, 13, 14], "missing": [], "standard": True
    }  # fmt: skip


def test_an_unknown_domain(capsys):
    with pytest.raises(SystemExit):
        main(["ops", "--domain", "nowhere"])
    assert "--domain: nowhere is unknown; the domains are ai.onnx, ai.onnx.ml" in capsys.readouterr().err
