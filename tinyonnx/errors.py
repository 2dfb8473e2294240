"""Exceptions, in one tree.

::

    Error
    ├── ModelError      the model can't be loaded; all unsupported operators are listed at once
    ├── InputError      the feeds or the requested outputs don't fit the model
    ├── NodeError       an operator failed: names file, node, op, opset, cause, dtypes and shapes
    └── ResourceError   a limit of ``SessionOptions.limits`` was exceeded

Each of them is also an exception that onnxruntime raises in its place (`tinyonnx.ort.exceptions`), for code written for
it. Operators raise ``OpError`` with the cause alone; the caller, which has the node, turns it into a ``NodeError``.
"""

from tinyonnx.ort.exceptions import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    NotImplemented,
    RuntimeException,
)

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
        return printable(text)


def printable(text: str) -> str:
    """Escape control characters, line breaks and lone surrogates.

    Every text that comes from a file passes through here before it reaches a terminal.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class ModelError(Error, InvalidGraph, Fail):
    """The model can't be loaded."""


class ModelFileError(ModelError, NoSuchFile):
    """There is no such file."""


class ModelContentError(ModelError, InvalidProtobuf):
    """The file is not an ONNX model."""


class UnsupportedModelError(ModelError, NotImplemented):
    """The model needs operators that don't exist here."""


class InputError(Error, ValueError, InvalidArgument):
    """The feeds or the requested outputs don't fit the model."""


class NodeError(Error, Fail, RuntimeException, InvalidArgument):
    """An operator failed on its inputs. onnxruntime raises one of three types, depending on the operator."""


class BindingError(InputError, RuntimeError):
    """A bound input or output doesn't fit the model."""


class ResourceError(Error, Fail):
    """A limit was exceeded: tensor size, number of nodes, loop iterations or seconds."""


class OpError(Exception):
    """The cause of an operator's failure, without its node. Operators raise it; users see a NodeError."""
