"""Exceptions.

::

    Error
    ├── AudioError      the sound can't be read; names the file
    ├── ModelError      the model can't be found, loaded or run, or is not an AudioSet tagger
    ├── LabelError      unknown AudioSet class
    ├── OutputError     results can't be written, or would overwrite something; names the file
    ├── ManifestError   a list of files can't be read; names the list
    ├── TimeLimitError  a file exceeded the time limit; names the file
    └── CrashError      a file crashed the process that worked on it; names the file

`AudioWarning` is the category of Python warnings about sound that was read incompletely.

Every message is a single line without control characters.
"""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """Escape control characters, line breaks and undecodable bytes of file names, except the characters of `keep`.

    Every text that comes from a file or from the user passes through here before it reaches a terminal.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


_REASONS = {
    "Internal error : SF_INFO struct incomplete.": "its header gives no valid sample rate (0 Hz?) or channels",
    "File does not exist or is not a regular file (possibly a pipe?).": "has no sound that could be decoded",
    "System error.": "can't be read",
}
"""Messages of libsndfile, in words for users."""


def reason(error: Exception) -> str:
    """Return the cause that an exception of the system or of libsndfile gives, in words for users."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = getattr(error, "error_string", None) or str(error) or type(error).__name__
    return _REASONS.get(text, text)


class Error(Exception):
    """Base of all exceptions that audiotag raises deliberately."""


class _AboutFile(Error):
    """An error of one file: `name` is the file as the user gave it, `problem` the cause."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name = name
        self.problem = problem

    def __str__(self) -> str:
        return printable(f"{self.name}: {self.problem}")


class AudioError(_AboutFile):
    """The sound can't be read."""


class AudioWarning(UserWarning):
    """Sound is missing or implausible; if there is a result, this is in its `warnings` instead."""


class ModelError(Error):
    """The model can't be found, loaded or run, or is not an AudioSet tagger."""


class LabelError(Error):
    """Unknown AudioSet class."""


class OutputError(_AboutFile):
    """Results can't be written."""


class ManifestError(_AboutFile):
    """A list of files can't be read."""


class TimeLimitError(_AboutFile):
    """A file exceeded the time limit."""


class CrashError(_AboutFile):
    """A file crashed the process that worked on it."""
