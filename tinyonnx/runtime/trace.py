"""Iterate over the nodes of a run and their outputs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tinyonnx.ir import Node

Hook = Callable[[Node, list[Any]], None]
"""Called after every node with its outputs; arrays may be views that the next step overwrites."""


def iterate(run: Callable[[Hook], Any]) -> Iterator[tuple[Node, list[Any]]]:
    """Iterate over the calls of `hook` by `run(hook)`, which runs in a thread of its own and waits between them.

    Exceptions of `run` are raised here; if the iterator is closed early, `run` ends at its next node.
    """
    asked, given = threading.Semaphore(0), queue.SimpleQueue[Any]()
    closed = False

    def hook(node: Node, outputs: list[Any]) -> None:
        given.put((node, outputs))
        asked.acquire()
        if closed:
            raise _Closed

    def work() -> None:
        asked.acquire()
        try:
            if not closed:
                run(hook)
            given.put(None)
        except BaseException as error:  # raised again in the reader
            given.put(error)

    threading.Thread(target=work, name="tinyonnx trace", daemon=True).start()
    try:
        while True:
            asked.release()
            item = given.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed = True
        asked.release()


class _Closed(BaseException):
    """Raised inside the run when the consumer of the trace has stopped iterating."""
