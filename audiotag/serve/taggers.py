"""The models of a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from audiotag.errors import ModelError, printable
from audiotag.tagger import Tagger


class Taggers:
    """Taggers by the names of their models; the first one serves requests that name none.

    Raises ModelError if two models have the same name.
    """

    def __init__(self, taggers: Sequence[Tagger]) -> None:
        self._by_name = {tagger.model.name: tagger for tagger in taggers}
        if len(self._by_name) < len(taggers):
            names = [tagger.model.name for tagger in taggers]
            twice = next(name for name in names if names.count(name) > 1)
            raise ModelError(
                printable(f"{twice}: two models have this name: name each once, or rename the file of one")
            )

    def __iter__(self) -> Iterator[Tagger]:
        return iter(self._by_name.values())

    def chosen(self, parameters: Mapping[str, str]) -> Tagger:
        """Return the tagger that the parameter `model` of a request names. Raises ValueError if it is unknown."""
        default = next(iter(self._by_name))
        name = parameters.get("model", default)
        if name not in self._by_name:
            raise ValueError(f"no model is named {printable(name)!r}; served are {', '.join(self._by_name)}")
        return self._by_name[name]
