"""Kinds and rows of arguments: records, tuples, specialisation constants."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import numpy as np
import pytest

from tinyonnx.codegen import primitives
from tinyonnx.codegen.arguments import Specialised, Static, encode, kinds_of, leaves
from tinyonnx.codegen.kernel import DISABLED, Kernel, jit, kernel


class Point(NamedTuple):
    x: Any
    y: int


class Line(NamedTuple):
    start: Point
    end: Point
    width: Any


ARRAY = np.arange(4, dtype=np.float32)
ARGUMENTS = (Line(Point(ARRAY, 3), Point(ARRAY[:2], 5), np.float32(0.5)), (1, 2.0), Specialised(7), 9)


def test_kinds_name_records_and_constants() -> None:
    point = f"{__name__}:Point(x=<f4 y=i)"
    assert kinds_of(ARGUMENTS) == f"{__name__}:Line(start={point} end={point} width=f) (i d) #7 i"


def test_rows_have_the_leaves_in_order() -> None:
    kinds = [type(leaf) for leaf in leaves(ARGUMENTS)]
    assert kinds == [
        np.ndarray,
        int,
        np.ndarray,
        int,
        np.float32,
        int,
        float,
        int,
    ]
    address = ARRAY.ctypes.data
    bits = [np.float32(0.5).view(np.int32), np.float64(2).view(np.int64)]
    assert encode(ARGUMENTS).tolist() == [address, 4, 3, address, 2, 5, bits[0], 1, bits[1], 9]


@jit
def unrolled(count: Static, line: Line, out: Any) -> None:
    for i in range(count):
        out[i] = line.start.x[line.start.y] + line.width


@kernel
def draw(line: Line, pair: tuple[int, float], count: Static, last: int, out: Any, part: int, parts: int) -> None:
    unrolled(count, line, out)
    middle = Point(out, last)
    middle.x[middle.y] = pair[0] + pair[1]


def test_kernels_read_fields_by_name() -> None:
    for count in (2, 7):
        out = np.zeros(10, np.float32)
        line, pair, _, last = ARGUMENTS
        draw(line, pair, Specialised(count), last, out)
        assert out.tolist() == [3.5] * count + [0] * (9 - count) + [3]


@pytest.mark.skipif(DISABLED, reason="nothing is compiled")
def test_what_is_no_constant_is_refused() -> None:
    from tinyonnx.codegen.compiler import compile_kernel, errors

    line, pair, _, last = ARGUMENTS
    with pytest.raises(errors.TypingError, match=r"count of .* must be a constant"):
        compile_kernel(draw, kinds_of((line, pair, 7, last, ARRAY)))


def test_keys_tell_fields_apart() -> None:
    """A class in another file may change while the kernel's source stays."""

    def constants(*fields: str) -> list[tuple[str, str]]:
        record = NamedTuple("record", [(field, int) for field in fields])  # type: ignore[misc]
        function = eval("lambda x, part, parts: record(1, 2)", {"record": record})
        return Kernel(function).constants()

    assert constants("a", "b") != constants("b", "a")


def test_primitives_and_their_code_have_the_same_parameters() -> None:
    if DISABLED:
        pytest.skip("nothing is compiled")
    from tinyonnx.codegen import emit_tiles

    for emit in (emit_tiles.gemm_tile, emit_tiles.gemm_tiles, emit_tiles.taps_tiles):
        meaning = getattr(primitives, emit.__name__).function
        assert list(inspect.signature(emit).parameters)[1:] == list(inspect.signature(meaning).parameters)
