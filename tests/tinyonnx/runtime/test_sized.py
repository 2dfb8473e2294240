"""Plans for every size give what plans for one size give, bit for bit, and never hold where they shouldn't."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto

import tinyonnx
from tests.tinyonnx.runtime.sized_graphs import Images, Sequences
from tinyonnx.codegen.kernel import DISABLED
from tinyonnx.ir import Array
from tinyonnx.runtime.sized import SizedPlan

pytestmark = pytest.mark.skipif(DISABLED, reason="plans for every size need machine code")


def fresh(model: bytes, feeds: dict[str, Array], threads: int = 1) -> list[Array]:
    return session(model, threads).run(None, feeds)


def session(model: bytes, threads: int = 1) -> tinyonnx.InferenceSession:
    options = tinyonnx.SessionOptions()
    options.intra_op_num_threads = threads
    return tinyonnx.InferenceSession(model, options)


def sized_plans(s: tinyonnx.InferenceSession) -> list[SizedPlan]:
    (plans,) = s._sized.values()
    assert not plans.refused, plans.refused
    return plans._plans


def check(model: ModelProto, shapes: list[tuple[int, ...]], seed: int) -> None:
    """Run all shapes in one session, some again, each beside a session of its own; one also beside onnxruntime."""
    content = model.SerializeToString()
    random = np.random.default_rng(seed)
    here = session(content)
    for i, shape in enumerate((*shapes, *shapes[:3])):
        feeds = {"x": random.standard_normal(shape).astype(np.float32)}
        results, expected = here.run(None, feeds), fresh(content, feeds)
        for a, b in zip(results, expected, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"shape {shape}")
        if i == 1:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            theirs = onnxruntime.InferenceSession(content, options).run(None, feeds)
            for a, b in zip(results, theirs, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    assert sized_plans(here)


@pytest.mark.parametrize("seed", range(40))
def test_images(seed: int) -> None:
    random = np.random.default_rng(seed)
    height = int(random.integers(16, 40))
    if seed % 2:
        shapes = [(1, 4, height, int(n)) for n in random.integers(16, 90, 9)]
    else:
        shapes = [(1, 4, int(m), int(n)) for m, n in random.integers(16, 70, (9, 2))]
    check(Images(seed).build(), shapes, seed)


@pytest.mark.parametrize("seed", range(40))
def test_sequences(seed: int) -> None:
    random = np.random.default_rng(seed)
    batch = int(random.integers(1, 4))
    if seed % 2:
        shapes = [(batch, int(n), 24) for n in random.integers(2, 60, 9)]
    else:
        shapes = [(int(m), int(n), 24) for m, n in zip(random.integers(1, 5, 9), random.integers(1, 60, 9))]
    check(Sequences(seed).build(), shapes, seed)
