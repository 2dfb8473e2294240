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


class Error(Exception):
    """Base of everything that tinyonnx raises on purpose."""


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
