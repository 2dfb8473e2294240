"""What can go wrong, as one tree.

::

    Error
    ├── ModelError      the model can't be loaded; lists every unsupported operator at once
    ├── InputError      the feeds or the requested outputs don't fit the model
    ├── NodeError       an operator failed: names file, node, op, opset, cause, dtypes and shapes
    └── ResourceError   a limit of ``SessionOptions.limits`` was reached

Operators raise a bare ``OpError``; only the executor knows which node was running and
turns it into a ``NodeError``.
"""

_LONGEST = 8000
"""Characters of a message: enough for every operator of a large model, not for a model's names of megabytes."""


class Error(Exception):
    """Base of everything that tinyonnx raises on purpose.

    Its text is one line that is safe to print: names in a model may hold escape sequences of terminals.
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
    """The feeds or the requested outputs don't fit the model; a ValueError, as in onnxruntime."""


class NodeError(Error):
    """An operator failed on its inputs."""


class ResourceError(Error):
    """A limit was reached (tensor size, number of nodes, loop iterations, seconds)."""


class OpError(Exception):
    """Raised by operators: the cause alone, without saying which node it was."""
