"""What can go wrong, as one tree.

::

    Error
    ├── AudioError    the sound can't be read; names the file
    ├── ModelError    the model can't be found, loaded or run, or is no AudioSet tagger
    ├── LabelError    no such AudioSet class
    ├── OutputError   results can't be written, or would destroy others; names the file
    ├── ManifestError a list of files can't be read; names it
    ├── TimeLimitError the work on a file took too long; names it
    └── CrashError    the work on a file ended the process that did it; names it

Every message is one line, fit for a terminal.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with control characters and undecodable bytes of file names escaped, so that it stays one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Error(Exception):
    """Base of everything that audiotag raises on purpose."""


class _AboutFile(Error):
    """An error of one file: `name` is the file as the user gave it, `problem` what is wrong with it."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name = name
        self.problem = problem

    def __str__(self) -> str:
        return printable(f"{self.name}: {self.problem}")


class AudioError(_AboutFile):
    """The sound can't be read."""


class ModelError(Error):
    """The model can't be found, loaded or run, or is no AudioSet tagger."""


class LabelError(Error):
    """No such AudioSet class."""


class OutputError(_AboutFile):
    """Results can't be written."""


class ManifestError(_AboutFile):
    """A list of files can't be read."""


class TimeLimitError(_AboutFile):
    """The work on a file took longer than it may."""


class CrashError(_AboutFile):
    """The work on a file ended the process that did it."""
