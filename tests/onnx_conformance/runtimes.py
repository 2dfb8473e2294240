"""Runtimes that misbehave; workers import them by name."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from onnx_conformance.runtimes import RUNTIMES
from onnx_conformance.runtimes.base import Runtime


def start_hostile() -> Callable[[bytes], Any]:
    """Start a runtime that crashes on Abs, exits on Acos, hangs on Acosh, panics on Add, fails Sub and lacks Mul."""
    prepare = RUNTIMES["tinyonnx"].start()

    def prepare_hostile(model: bytes) -> Any:
        kind = onnx.load_from_string(model).graph.node[0].op_type
        run = prepare(model)
        if kind == "Abs":
            os.write(2, b"assertion failed: hostile.c:1\n")
            os.abort()
        if kind == "Acos":
            os._exit(3)
        if kind == "Acosh":
            time.sleep(1000)
        if kind == "Add":
            raise BaseException("panicked")
        if kind == "Sub":
            return lambda feeds: [np.nan * np.asarray(y) for y in run(feeds)]
        if kind == "Mul":
            raise NotImplementedError("Mul")
        return run

    return prepare_hostile


def start_never() -> Callable[[bytes], Any]:
    raise ImportError("a library of 1996 is missing")


def start_dead() -> Callable[[bytes], Any]:
    os._exit(7)


class Unreadable:
    """An object that can be pickled, but not unpickled."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def start_unreadable() -> Callable[[bytes], Any]:
    """Start a runtime whose outputs the parent can't read."""
    return lambda model: lambda feeds: [Unreadable()]


UNREADABLE = Runtime("unreadable", "numpy", "numpy", start_unreadable, "^$")
HOSTILE = Runtime("hostile", "numpy", "numpy", start_hostile, "NotImplemented")
NEVER = Runtime("never", "numpy", "numpy", start_never, "^$")
DEAD = Runtime("dead", "numpy", "numpy", start_dead, "^$")
MISSING = Runtime("missing", "no_such_module", "no-such-package", start_never, "^$")


def start_wrong_tanh() -> Callable[[bytes], Any]:
    """Start a runtime that doubles positive inputs of Tanh, and refuses Sinh."""
    prepare = RUNTIMES["reference"].start()

    def plant(graph: onnx.GraphProto) -> None:
        nodes = list(graph.node)
        del graph.node[:]
        for node in nodes:
            for attribute in node.attribute:
                plant(attribute.g)
            if node.op_type == "Sinh":
                raise ValueError("Sinh is not for everybody")
            if node.op_type == "Tanh":
                source = node.input[0]
                graph.node.append(onnx.helper.make_node("Relu", [source], [f"{source}_positive"]))
                graph.node.append(onnx.helper.make_node("Add", [source, f"{source}_positive"], [f"{source}_2"]))
                node.input[0] = f"{source}_2"
            graph.node.append(node)

    def prepare_wrong(model: bytes) -> Any:
        proto = onnx.load_from_string(model)
        plant(proto.graph)
        return prepare(proto.SerializeToString())

    return prepare_wrong


WRONG_TANH = Runtime("wrong-tanh", "numpy", "numpy", start_wrong_tanh, "NotImplemented")
