"""LLVM code of the primitives of programs and threads: calls by address, atomic operations, the clock."""

from __future__ import annotations

import time
from typing import Any

import numba
import numba.core.cgutils
from llvmlite import ir

from tinyonnx.codegen.emitter import I32, INDEX

# numba's own annotations cover only a part of it
types: Any = numba.types
cgutils: Any = numba.core.cgutils


def call_entry(_context: Any, entry: Any, row: Any, part: Any, parts: Any) -> Any:
    """Call the entry point at one address with the row at another, for one share of the work."""
    i64 = types.int64

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        entry, row, part, parts = args
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(I32, [pointer, pointer, pointer, INDEX, INDEX])
        ignored = builder.bitcast(cgutils.alloca_once(builder, ir.ArrayType(INDEX, 4)), pointer)
        function = builder.inttoptr(entry, kind.as_pointer())
        builder.call(function, [ignored, ignored, builder.inttoptr(row, pointer), part, parts])
        return context.get_dummy_value()

    return types.void(i64, i64, i64, i64), emit


def _element(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """Return the pointer to an element of the array that is the first argument."""
    return builder.gep(context.make_array(sig.args[0])(context, builder, args[0]).data, [args[1]])


def atomic_add(_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Add `value` to array[index]; return the old number."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _element(context, builder, sig, args), args[2], "seq_cst")

    return types.int64(array, types.int64, types.int64), emit


def atomic_load(_context: Any, array: Any, index: Any) -> Any:
    """Read array[index]."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(_element(context, builder, sig, args), "seq_cst", 8)

    return types.int64(array, types.int64), emit


def exchange_if(_context: Any, array: Any, index: Any, old: Any, new: Any) -> Any:
    """Set array[index] to `new` if it is `old`; return whether it was."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = _element(context, builder, sig, args)
        outcome = builder.cmpxchg(place, args[2], args[3], "seq_cst", "seq_cst")
        return builder.zext(builder.extract_value(outcome, 1), INDEX)

    return types.int64(array, types.int64, types.int64, types.int64), emit


def pause(_context: Any) -> Any:
    """Tell the processor that this thread is spinning."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        name = {"x86_64": "llvm.x86.sse2.pause"}.get(builder.module.triple.split("-")[0])
        if name is not None:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), emit


def yield_processor(_context: Any) -> Any:
    """Let the system run another thread."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if "windows" not in builder.module.triple:
            kind = ir.FunctionType(I32, [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), emit


def nanoseconds(_context: Any) -> Any:
    """Read the monotonic clock."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pair = builder.alloca(ir.ArrayType(INDEX, 2))  # a timespec
        kind = ir.FunctionType(I32, [I32, pair.type])
        clock = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
        builder.call(clock, [I32(time.CLOCK_MONOTONIC), pair])
        seconds, rest = (builder.extract_value(builder.load(pair), i) for i in range(2))
        return builder.add(builder.mul(seconds, INDEX(10**9)), rest)

    return types.int64(), emit


EMITTED = (call_entry, atomic_add, atomic_load, exchange_if, pause, yield_processor, nanoseconds)
"""The primitives' types and code, by name; their parameters are those of numba's intrinsics."""
