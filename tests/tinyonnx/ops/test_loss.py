from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.ops.running import check_against_onnxruntime, check_backend_cases, normal, outputs_of, run
from tinyonnx.errors import OpError


@pytest.mark.parametrize("name", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
def test_backend_cases(name: str) -> None:
    check_backend_cases(name)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [None, 1, -1])
@pytest.mark.parametrize("spatial", [(), (4,), (2, 3)])
def test_against_onnxruntime(reduction: str, weighted: bool, ignored: int | None, spatial: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    scores, labels = normal(5, 3, *spatial), rng.integers(0, 3, (5, *spatial))
    attributes = {"reduction": reduction} | ({} if ignored is None else {"ignore_index": ignored})
    if ignored == -1:
        labels[0] = -1
    inputs = [scores, labels, *([np.array([0.5, 1, 2], np.float32)] if weighted else [])]
    check_against_onnxruntime("SoftmaxCrossEntropyLoss", *inputs, opset=13, n_outputs=2, rtol=1e-5, **attributes)
    check_against_onnxruntime("NegativeLogLikelihoodLoss", *inputs, opset=13, rtol=1e-5, **attributes)


def test_half_precision_is_rounded_at_the_end() -> None:
    scores, labels = normal(1000, 10).astype(np.float16), np.zeros(1000, np.int64)
    loss, log_prob = outputs_of("SoftmaxCrossEntropyLoss", scores, labels, opset=13, n_outputs=2, reduction="sum")
    wide, _ = outputs_of("SoftmaxCrossEntropyLoss", scores.astype(np.float64), labels, opset=13, n_outputs=2,
                         reduction="sum")  # fmt: skip
    assert (loss.dtype, log_prob.dtype) == (np.float16, np.float16)
    assert abs(float(loss) - float(wide)) <= np.spacing(np.float16(wide))


@pytest.mark.parametrize(
    ("scores", "labels", "more", "attributes", "message"),
    [
        ((3,), (3,), (), {}, "rank 1"),
        ((5, 3), (4,), (), {}, r"\[4\]"),
        ((5, 3), (5,), ((2,),), {}, r"\[2\]"),
        ((5, 3), (5,), (), {"reduction": "median"}, "median"),
    ],
)
def test_misuse(scores: tuple[int, ...], labels: tuple[int, ...], more: tuple, attributes: dict, message: str) -> None:
    for name in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"):
        with pytest.raises(OpError, match=message):
            run(name, normal(*scores), np.zeros(labels, np.int64), *[normal(*s) for s in more], opset=13, **attributes)


def test_labels_that_are_no_class() -> None:
    with pytest.raises(OpError, match="7 is out of range for 3 classes"):
        run("NegativeLogLikelihoodLoss", normal(2, 3), np.array([0, 7]), opset=13)
