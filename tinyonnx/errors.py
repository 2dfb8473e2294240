"""Exceptions, in one tree.

::

    Error
    ├── ModelError      the model can't be loaded; all unsupported operators are listed at once
    ├── InputError      the feeds or the requested outputs don't fit the model
    ├── NodeError       an operator failed: names file, node, op, opset, cause, dtypes and shapes
    └── ResourceError   a limit of ``SessionOptions.limits`` was exceeded

Operators raise ``OpError`` with the cause alone; the caller, which has the node, turns it into a ``NodeError``.
"""

_LONGEST = 8000
"""Maximum characters of a message: room for every operator of a large model; names in a model may take megabytes."""


class Error(Exception):
    """Base class of all exceptions that tinyonnx raises on purpose.

    The message is one line that is safe to print: control characters from names in a model are escaped.
    """

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) > _LONGEST:
            text = f"{text[: _LONGEST - 1000]} [{len(text) - _LONGEST} characters left out] {text[-1000:]}"
        return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


class ModelError(Error):
    """The model can't be loaded."""


class InputError(Error, ValueError):
    """The feeds or the requested outputs don't fit the model. It is a ValueError, as in onnxruntime."""


class NodeError(Error):
    """An operator failed on its inputs."""


class ResourceError(Error):
    """A limit was exceeded: tensor size, number of nodes, loop iterations or seconds."""


class OpError(Exception):
    """The cause of an operator's failure, without its node. Operators raise it; users see a NodeError."""
