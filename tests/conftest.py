"""Fixtures for what lies outside the repository: real weights, real recordings, PyTorch's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from audiotag import models


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the checkout; tests that need it skip without."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        pytest.skip("needs ../shared: real weights and recordings")
    return path


@pytest.fixture(scope="session")
def mn04(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EfficientAT's mn04_as as we convert it from its checkpoint."""
    path = tmp_path_factory.mktemp("mn04") / "mn04.onnx"
    models.convert(shared / "data/mn04_as_mAP_432.pt", path)
    return path
