"""Neural audio tagging: AudioSet tags for sound files, on `tinyonnx`.

::

    from audiotag import Tagger

    result = Tagger().tag("clip.wav")
    for tag in result.tags:
        print(tag.label, tag.score)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from audiotag.errors import AudioError, Error, LabelError, ModelError, OutputError

if TYPE_CHECKING:
    from audiotag.crawl.datasets import tag_dataset
    from audiotag.events import EventOptions
    from audiotag.results import Failure, Result, Tag, to_pandas
    from audiotag.tagger import Tagger
    from tinyonnx import __version__

__all__ = [
    "AudioError",
    "Error",
    "EventOptions",
    "Failure",
    "LabelError",
    "ModelError",
    "OutputError",
    "Result",
    "Tag",
    "Tagger",
    "__version__",
    "tag_dataset",
    "to_pandas",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> object:
    # lazy, so that importing audiotag does not import numpy, soundfile and the engine
    if name == "__version__":  # one distribution, one version
        import tinyonnx

        return tinyonnx.__version__
    if name == "Tagger":
        from audiotag.tagger import Tagger

        return Tagger
    if name == "tag_dataset":
        from audiotag.crawl.datasets import tag_dataset

        return tag_dataset
    if name == "EventOptions":
        from audiotag.events import EventOptions

        return EventOptions
    if name in ("Failure", "Result", "Tag", "to_pandas"):
        from audiotag import results

        return getattr(results, name)
    raise AttributeError(f"module 'audiotag' has no attribute {name!r}")
