"""Models: the catalogue of names, downloads, checkpoints, and the networks built from them."""

from audiotag.models.catalog import (
    DEFAULT,
    FULL_SIZE,
    ModelNotFound,
    ResolvedModel,
    cache_dir,
    convert,
    default_path,
    model_path,
    pull,
    resolve,
    sha256_of,
)
from audiotag.models.releases import MODELS, RELEASE_URL, ReleaseModel

__all__ = [
    "DEFAULT",
    "FULL_SIZE",
    "MODELS",
    "RELEASE_URL",
    "ModelNotFound",
    "ReleaseModel",
    "ResolvedModel",
    "cache_dir",
    "convert",
    "default_path",
    "model_path",
    "pull",
    "resolve",
    "sha256_of",
]
