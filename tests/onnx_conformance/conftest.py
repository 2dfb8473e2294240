from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from onnx_conformance.suite.cases import KINDS, Case


@pytest.fixture(scope="session")
def loaded_suite(onnx_cases: list[Case]) -> Iterator[None]:
    """Give the corpus of the fuzzer the cases that are loaded already."""

    def load(kinds: Iterable[str] = KINDS) -> list[Case]:
        return [case for kind in kinds for case in onnx_cases if case.kind == kind]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onnx_conformance.generate.corpus.load_suite", load)
        yield
