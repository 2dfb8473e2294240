"""The compiler: kernels to machine code, by numba and LLVM.

Nothing else in the package imports numba, and this module is imported only when a machine
lacks the code of a kernel.  What has to run at the FMA peak goes through `gemm_tile` and
`taps_tile`, intrinsics that emit vector code (`_vectors`) with all accumulators in registers.
"""

from __future__ import annotations

import time
import types as python
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numba
import numba.core.cgutils
import numba.core.codegen
import numba.core.cpu
import numba.core.errors
import numba.np.arrayobj
import numpy as np
from llvmlite import ir
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

from tinyonnx.codegen import machine
from tinyonnx.codegen.emitter import F32, I32, INDEX, Emitter
from tinyonnx.codegen.kernel import Helper, Kernel, Primitive
from tinyonnx.codegen.primitives import LANES

# numba's own annotations cover only a part of it
types: Any = numba.types
cgutils: Any = numba.core.cgutils
codegen: Any = numba.core.codegen
cpu: Any = numba.core.cpu
errors: Any = numba.core.errors
arrayobj: Any = numba.np.arrayobj


# -- compiling --------------------------------------------------------------------------

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
    "fastmath": {"contract"},
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "_nrt": False,
    "debug": False,
}
"""No wrappers and no reference counts: the code must run without numba, and without Python."""


def compile_kernel(kernel: Kernel, kinds: str, symbol: str = machine.SYMBOL, linkable: bool = False) -> bytes:
    """An object file with the entry point `symbol` for arguments of these kinds.

    It is for this process's loader or, if `linkable`, for a linker: position-independent, and
    without other symbols of its own.
    """
    body, arguments = _compiled(kernel), _arguments(kinds)

    def entry(row: Any, part: int, parts: int) -> None:
        body(*arguments(row, part, parts))

    compiled: Any = numba.njit(**_OPTIONS)(entry)
    signature = (types.CPointer(types.int64), types.int64, types.int64)
    with global_compiler_lock, _without_machine_code():
        compiled.compile(signature)
        result = compiled.overloads[signature]
        result.library._ensure_finalized()
    with global_compiler_lock:
        result.library._optimize_final_module()
    return _object(result.library, result.fndesc.llvm_func_name, symbol, linkable)


@contextmanager
def _without_machine_code() -> Iterator[None]:
    """Keep numba from optimising and assembling every function by itself, ready to be called.

    They are all linked into the kernel, where this happens once more: it would take most of the time.
    """
    idle = {
        (codegen.CPUCodeLibrary, "_optimize_final_module"): lambda library: None,
        (codegen.JITCodeLibrary, "_finalize_specific"): lambda library: None,
        (codegen.JITCPUCodegen, "_add_module"): lambda machine, module: None,
        # nobody calls what comes out, but it must be a builtin function, and one of its own for each
        (cpu.CPUContext, "get_executable"): lambda *_: [].append,
    }
    before = {place: getattr(*place) for place in idle}
    for (owner, name), function in idle.items():
        setattr(owner, name, function)
    try:
        yield
    finally:
        for (owner, name), function in before.items():
            setattr(owner, name, function)


def _object(library: Any, name: str, symbol: str, linkable: bool) -> bytes:
    """The object file of a library whose function `name` is to be called `symbol`."""
    text = library.get_llvm_str().replace(f'"{name}"', symbol).replace(f"@{name}(", f"@{symbol}(")
    module = codegen.ll.parse_assembly(text)
    if not linkable:
        return bytes(library.codegen._tm.emit_object(module))
    for inner in (*module.functions, *module.global_variables):
        if not inner.is_declaration and inner.name != symbol:
            inner.linkage = "internal"
    module.get_function(symbol).visibility = "hidden"
    target = codegen.ll.Target.from_triple(module.triple)
    name, features = library.codegen._get_host_cpu_name(), library.codegen._tm_features
    machine = target.create_target_machine(cpu=name, features=features, opt=3, reloc="pic", codemodel="small")
    return bytes(machine.emit_object(module))


def _resolve(value: Any) -> Any:
    if isinstance(value, Primitive):
        return _PRIMITIVES[value.__name__]
    return _compiled(value) if isinstance(value, Helper) else value


@cache
def _compiled(helper: Helper) -> Any:
    """numba's view of a function, and of all those that it calls."""
    function = helper.function
    code, known = function.__code__, function.__globals__
    names = {name: _resolve(known[name]) for name in code.co_names if name in known}
    copy = python.FunctionType(code, names, function.__name__)
    return numba.njit(**_OPTIONS)(copy)


_NUMBERS = {"i": types.int64, "f": types.float32, "d": types.float64}


def _type_of(kind: str) -> Any:
    if kind in _NUMBERS:
        return _NUMBERS[kind]
    if kind.startswith("("):
        return types.Tuple([_NUMBERS[item] for item in kind[1:-1]])
    return types.Array(numba.from_dtype(np.dtype(kind)), 1, "C")


def _arguments(kinds: str) -> Any:
    """An intrinsic: from (row, part, parts) to the tuple of a kernel's arguments."""
    wanted = [_type_of(kind) for kind in kinds.split()]

    @intrinsic
    def arguments(_context: Any, row: Any, part: Any, parts: Any) -> Any:
        signature = types.Tuple([*wanted, part, parts])(row, part, parts)

        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            row, part, parts = args
            position = 0

            def number(kind: Any) -> Any:
                nonlocal position
                value = builder.load(builder.gep(row, [INDEX(position)]))
                position += 1
                if kind == types.float32:
                    return builder.bitcast(builder.trunc(value, I32), F32)
                return builder.bitcast(value, ir.DoubleType()) if kind == types.float64 else value

            def array(kind: Any) -> Any:
                result = context.make_array(kind)(context, builder)
                pointer = builder.inttoptr(number(types.int64), context.get_data_type(kind.dtype).as_pointer())
                itemsize = INDEX(context.get_abi_sizeof(context.get_data_type(kind.dtype)))
                shape, strides = [number(types.int64)], [itemsize]
                arrayobj.populate_array(result, pointer, shape, strides, itemsize, meminfo=None)
                return result._getvalue()

            values = []
            for kind in wanted:
                if isinstance(kind, types.Array):
                    values.append(array(kind))
                elif isinstance(kind, types.BaseTuple):
                    values.append(context.make_tuple(builder, kind, [number(item) for item in kind]))
                else:
                    values.append(number(kind))
            return context.make_tuple(builder, sig.return_type, [*values, part, parts])

        return signature, emit

    return arguments


# -- LLVM vector code -------------------------------------------------------------------


def _literal(argument: Any) -> int:
    if not isinstance(argument, types.IntegerLiteral):
        raise errors.RequireLiteralValue("the shape of a tile must be a literal")
    return int(argument.literal_value)


def _data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return context.make_array(kind)(context, builder, array).data


_EPILOGUE = types.Tuple([types.intp, types.intp, types.float32, types.float32])


def _gemm_tile(
    _context: Any, rows: Any, width: Any, x: Any, x_at: Any, x_step: Any, taps: Any, w: Any, w_at: Any, bias: Any,
    b_at: Any, out: Any, o_at: Any, o_step: Any, o_column: Any, last: Any, lanes: Any, residual: Any, epilogue: Any,
) -> Any:  # fmt: skip
    n_rows, n_vectors = _literal(rows), _literal(width)
    i64 = types.intp
    signature = types.void(
        rows, width, x, i64, i64, types.UniTuple(i64, 6), w, i64, bias, i64, out, i64, i64, i64, i64, i64, residual,
        _EPILOGUE,
    )  # fmt: skip

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        e = Emitter(builder)
        (
            _,
            _,
            x,
            x_at,
            x_step,
            taps,
            w,
            w_at,
            bias,
            b_at,
            out,
            o_at,
            o_step,
            o_column,
            last,
            lanes,
            residual,
            epilogue,
        ) = args
        x, w, bias, out, residual = (
            _data(context, builder, sig.args[i], a) for i, a in ((2, x), (6, w), (8, bias), (10, out), (16, residual))
        )
        outer, outer_step, inner, inner_step, depth, w_outer = cgutils.unpack_tuple(builder, taps, 6)
        x, w, bias = e.at(x, x_at), e.at(w, w_at), e.at(bias, b_at)
        panel = n_vectors * LANES
        rows = [e.at(x, e.times(x_step, r)) for r in range(n_rows)]
        start = [e.load(e.at(bias, v * LANES)) for v in range(n_vectors)] * n_rows
        run = builder.mul(depth, INDEX(panel))

        def over_outer(o: Any, acc: list[Any]) -> list[Any]:
            x_o, w_o = builder.mul(o, outer_step), builder.mul(o, w_outer)

            def over_inner(i: Any, acc: list[Any]) -> list[Any]:
                x_i = builder.add(x_o, builder.mul(i, inner_step))
                run_rows = [e.at(row, x_i) for row in rows]
                weights = e.at(w, builder.add(w_o, builder.mul(i, run)))

                def over_depth(k: Any, acc: list[Any]) -> list[Any]:
                    here = e.at(weights, builder.mul(k, INDEX(panel)))
                    columns = [e.load(e.at(here, v * LANES)) for v in range(n_vectors)]
                    new = []
                    for r, row in enumerate(run_rows):
                        value = e.splat(builder.load(e.at(row, k)))
                        new += [e.fma(value, columns[v], acc[r * n_vectors + v]) for v in range(n_vectors)]
                    return new

                return e.loop(depth, acc, over_depth)

            return e.loop(inner, acc, over_inner)

        total = e.loop(outer, start, over_outer)
        columns = [e.times(o_column, v) for v in range(n_vectors - 1)] + [last]
        offsets = [builder.add(builder.add(o_at, e.times(o_step, r)), c) for r in range(n_rows) for c in columns]
        e.finish(total, offsets, out, residual, epilogue, e.first(lanes) if n_vectors == 1 else None)
        return context.get_dummy_value()

    return signature, emit


def _window_tile(
    _context: Any, pixels: Any, width: Any, height: Any, depth: Any, step: Any, x: Any, x_at: Any, x_row: Any, w: Any,
    w_at: Any, bias: Any, b_at: Any, out: Any, o_at: Any, o_step: Any, last: Any, lanes: Any, residual: Any,
    epilogue: Any,
) -> Any:  # fmt: skip
    n_pixels, n_vectors, n_rows, n_run, n_step = map(_literal, (pixels, width, height, depth, step))
    i64 = types.intp
    signature = types.void(
        pixels, width, height, depth, step, x, i64, i64, w, i64, bias, i64, out, i64, i64, i64, i64, residual, _EPILOGUE
    )

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        e = Emitter(builder)
        x, x_at, x_row, w, w_at, bias, b_at, out, o_at, o_step, last, lanes, residual, epilogue = args[5:]
        x, w, bias, out, residual = (
            _data(context, builder, sig.args[i], a) for i, a in ((5, x), (8, w), (10, bias), (12, out), (17, residual))
        )
        x, w, bias = e.at(x, x_at), e.at(w, w_at), e.at(bias, b_at)
        acc = [e.load(e.at(bias, v * LANES)) for v in range(n_vectors)] * n_pixels
        for i in range(n_rows):
            row = e.at(x, e.times(x_row, i))
            at = (i * n_run * n_vectors, (i + 1) * n_run * n_vectors)
            columns = [e.load(e.at(w, j * LANES)) for j in range(*at)]
            seen: dict[int, Any] = {}
            for p in range(n_pixels):
                for j in range(n_run):
                    place = p * n_step + j
                    if place not in seen:
                        seen[place] = e.splat(builder.load(e.at(row, place)))
                    for v in range(n_vectors):
                        a = p * n_vectors + v
                        acc[a] = e.fma(seen[place], columns[j * n_vectors + v], acc[a])
        ends = [INDEX(v * LANES) for v in range(n_vectors - 1)] + [last]
        offsets = [builder.add(builder.add(o_at, e.times(o_step, p)), c) for p in range(n_pixels) for c in ends]
        e.finish(acc, offsets, out, residual, epilogue, e.first(lanes) if n_vectors == 1 else None)
        return context.get_dummy_value()

    return signature, emit


def _taps_tile(
    _context: Any, pixels: Any, width: Any, stride: Any, masked: Any, x: Any, x_at: Any, x_step: Any, taps: Any, w: Any,
    w_at: Any, bias: Any, b_at: Any, out: Any, o_at: Any, o_step: Any, lanes: Any, residual: Any, epilogue: Any,
    sums: Any, s_at: Any, skip: Any,
) -> Any:  # fmt: skip
    n_pixels, n_taps, n_stride, is_masked = _literal(pixels), _literal(width), _literal(stride), _literal(masked)
    i64 = types.intp
    signature = types.void(
        pixels, width, stride, masked, x, i64, i64, types.UniTuple(i64, 7), w, i64, bias, i64, out, i64, i64, i64,
        residual, _EPILOGUE, sums, i64, i64,
    )  # fmt: skip

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        e = Emitter(builder)
        x, x_at, x_step, taps, w, w_at, bias, b_at, out, o_at, o_step, lanes, residual, epilogue = args[4:18]
        sums, s_at, skip = args[18:]
        x, w, bias, out, residual, sums = (
            _data(context, builder, sig.args[i], a)
            for i, a in ((4, x), (8, w), (10, bias), (12, out), (16, residual), (18, sums))
        )
        outer, outer_step, inner, inner_step, w_outer, wrap_at, wrap = cgutils.unpack_tuple(builder, taps, 7)
        x, w = e.at(x, x_at), e.at(w, w_at)
        mask = e.first(lanes) if is_masked else None

        def unrolled(row: Any, weights: Any, acc: list[Any]) -> list[Any]:
            columns = [e.load(e.at(weights, j * LANES)) for j in range(n_taps)]
            seen = [e.load(e.at(row, e.times(inner_step, q))) for q in range((n_pixels - 1) * n_stride + n_taps)]
            for j in range(n_taps):
                acc = [e.fma(seen[p * n_stride + j], columns[j], acc[p]) for p in range(n_pixels)]
            return acc

        def looped(row: Any, weights: Any, acc: list[Any]) -> list[Any]:
            def over_inner(j: Any, acc: list[Any]) -> list[Any]:
                here = e.at(row, builder.mul(j, inner_step))
                column = e.load(e.at(weights, builder.mul(j, INDEX(LANES))))
                return [e.fma(e.load(e.at(here, e.times(x_step, p)), mask), column, acc[p]) for p in range(n_pixels)]

            return e.loop(inner, acc, over_inner)

        def over_outer(i: Any, acc: list[Any]) -> list[Any]:
            back = builder.select(builder.icmp_signed(">=", i, wrap_at), wrap, INDEX(0))
            row, weights = e.at(x, builder.sub(builder.mul(i, outer_step), back)), e.at(w, builder.mul(i, w_outer))
            return (unrolled if n_taps else looped)(row, weights, acc)

        total = e.loop(outer, [e.load(e.at(bias, b_at))] * n_pixels, over_outer)
        offsets = [builder.add(o_at, e.times(o_step, p)) for p in range(n_pixels)]
        results = e.finish(total, offsets, out, residual, epilogue, mask)
        e.add_up(results, skip, e.at(sums, s_at), mask)
        return context.get_dummy_value()

    return signature, emit


def _float_from_bits(_context: Any, bits: Any) -> Any:
    return types.float32(types.int32), lambda _c, builder, _s, args: builder.bitcast(args[0], F32)


def _bits_from_float(_context: Any, value: Any) -> Any:
    return types.int32(types.float32), lambda _c, builder, _s, args: builder.bitcast(args[0], I32)


# -- programs and threads ---------------------------------------------------------------


def _call_entry(_context: Any, entry: Any, row: Any, part: Any, parts: Any) -> Any:
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
    return builder.gep(_data(context, builder, sig.args[0], args[0]), [args[1]])


def _atomic_add(_context: Any, array: Any, index: Any, value: Any) -> Any:
    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _element(context, builder, sig, args), args[2], "seq_cst")

    return types.int64(array, types.int64, types.int64), emit


def _atomic_load(_context: Any, array: Any, index: Any) -> Any:
    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(_element(context, builder, sig, args), "seq_cst", 8)

    return types.int64(array, types.int64), emit


def _exchange_if(_context: Any, array: Any, index: Any, old: Any, new: Any) -> Any:
    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = _element(context, builder, sig, args)
        outcome = builder.cmpxchg(place, args[2], args[3], "seq_cst", "seq_cst")
        return builder.zext(builder.extract_value(outcome, 1), INDEX)

    return types.int64(array, types.int64, types.int64, types.int64), emit


def _pause(_context: Any) -> Any:
    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        name = {"x86_64": "llvm.x86.sse2.pause"}.get(builder.module.triple.split("-")[0])
        if name is not None:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), emit


def _yield_processor(_context: Any) -> Any:
    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if "windows" not in builder.module.triple:
            kind = ir.FunctionType(I32, [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), emit


def _nanoseconds(_context: Any) -> Any:
    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pair = builder.alloca(ir.ArrayType(INDEX, 2))  # a timespec
        kind = ir.FunctionType(I32, [I32, pair.type])
        clock = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
        builder.call(clock, [I32(time.CLOCK_MONOTONIC), pair])
        seconds, rest = (builder.extract_value(builder.load(pair), i) for i in range(2))
        return builder.add(builder.mul(seconds, INDEX(10**9)), rest)

    return types.int64(), emit


_PRIMITIVES: dict[str, Any] = {
    emit.__name__.removeprefix("_"): intrinsic(emit)
    for emit in (
        _gemm_tile, _window_tile, _taps_tile, _float_from_bits, _bits_from_float,
        _call_entry, _atomic_add, _atomic_load, _exchange_if, _pause, _yield_processor,
        _nanoseconds,
    )
}  # fmt: skip
