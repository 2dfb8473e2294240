"""Compile kernels to machine code with numba and LLVM.

Only this module and the modules `emit_…` import numba, and only when a machine lacks the code of a kernel.
"""

from __future__ import annotations

import types as python
from functools import cache
from typing import Any

import numba
import numba.core.codegen
import numba.core.errors
import numba.np.arrayobj
import numpy as np
from llvmlite import ir
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

from tinyonnx.codegen import cross, emit_atomics, emit_blocks, emit_bytes, emit_rows, emit_tiles, shortcuts
from tinyonnx.codegen.arguments import is_record, record_named
from tinyonnx.codegen.emitter import F32, I32, INDEX
from tinyonnx.codegen.kernel import Helper, Kernel, Primitive
from tinyonnx.codegen.loader import SYMBOL

# numba's own annotations cover only a part of it
types: Any = numba.types
codegen: Any = numba.core.codegen
errors: Any = numba.core.errors
arrayobj: Any = numba.np.arrayobj

cross.install()


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
    "pipeline_class": shortcuts.Pipeline,
}
"""Compile without wrappers and reference counts: the code must run without numba and without Python."""


def compile_kernel(kernel: Kernel, kinds: str, symbol: str = SYMBOL, linkable: bool = False) -> bytes:
    """Return an object file with the entry point `symbol` for arguments of these kinds.

    It is for this process's loader or, if `linkable`, for a linker: position-independent, and without other global
    symbols.
    """
    body, arguments = _compiled(kernel), _arguments(kinds)

    def entry(row: Any, part: int, parts: int) -> None:
        body(*arguments(row, part, parts))

    compiled: Any = numba.njit(**_OPTIONS)(entry)
    signature = (types.CPointer(types.int64), types.int64, types.int64)
    with global_compiler_lock, shortcuts.taken():
        compiled.compile(signature)
        result = compiled.overloads[signature]
        result.library._ensure_finalized()
    with global_compiler_lock:
        result.library._optimize_final_module()
    return _object(result.library, result.fndesc.llvm_func_name, symbol, linkable)


def _object(library: Any, name: str, symbol: str, linkable: bool) -> bytes:
    """Return the object file of a library, with its function `name` renamed to `symbol`."""
    text = library.get_llvm_str().replace(f'"{name}"', symbol).replace(f"@{name}(", f"@{symbol}(")
    module = codegen.ll.parse_assembly(text)
    if not linkable:
        return bytes(library.codegen._tm.emit_object(module))
    # numba's names depend on what the process compiled before
    for number, inner in enumerate((*module.functions, *module.global_variables)):
        if not inner.is_declaration and inner.name != symbol:
            inner.linkage, inner.name = "internal", f"inner{number}"
    module.get_function(symbol).visibility = "hidden"
    target = codegen.ll.Target.from_triple(module.triple)
    name, features = library.codegen._get_host_cpu_name(), library.codegen._tm_features
    machine = target.create_target_machine(cpu=name, features=features, opt=3, reloc="pic", codemodel="small")
    return bytes(machine.emit_object(module))


# -- functions --------------------------------------------------------------------------


def _resolve(value: Any) -> Any:
    if isinstance(value, Primitive):
        return _PRIMITIVES[value.__name__]
    return _compiled(value) if isinstance(value, Helper) else value


@cache
def _compiled(helper: Helper) -> Any:
    """Return the numba dispatcher of a function, and make those of all functions that it calls.

    numba would compile a function anew for every literal that it is called with; here it does so only for the literals
    of `Static` parameters.
    """
    function, statics = helper.function, helper.statics
    code, known = function.__code__, function.__globals__
    names = {name: _resolve(known[name]) for name in code.co_names if name in known}
    copy = python.FunctionType(code, names, function.__name__)
    dispatcher: Any = numba.njit(**_OPTIONS, forceinline=helper.inline)(copy)
    parameters, call_template = code.co_varnames[: code.co_argcount], dispatcher.get_call_template

    def typed(name: str, kind: Any) -> Any:
        if name not in statics:
            return types.unliteral(kind)
        if not isinstance(kind, types.IntegerLiteral):
            raise errors.TypingError(f"{name} of {helper.__name__} must be a constant")
        return kind

    def get_call_template(args: Any, kws: Any) -> Any:
        by_position = tuple(map(typed, parameters, args))
        return call_template(by_position, {name: typed(name, kind) for name, kind in kws.items()})

    dispatcher.get_call_template = get_call_template
    return dispatcher


# -- arguments --------------------------------------------------------------------------

_NUMBERS = {"i": types.int64, "f": types.float32, "d": types.float64}


def _split(kinds: str) -> list[str]:
    """Split kinds at the spaces outside of parentheses."""
    found, depth, start = [], 0, 0
    for i, character in enumerate(kinds + " "):
        depth += (character == "(") - (character == ")")
        if character == " " and depth == 0:
            found.append(kinds[start:i])
            start = i + 1
    return [kind for kind in found if kind]


def _type_of(kind: str) -> Any:
    if kind in _NUMBERS:
        return _NUMBERS[kind]
    if kind.startswith("#"):
        return types.literal(int(kind[1:]))
    if not kind.endswith(")"):
        return types.Array(numba.from_dtype(np.dtype(kind)), 1, "C")
    name, _, inner = kind[:-1].partition("(")
    if not name:
        return types.Tuple(list(map(_type_of, _split(inner))))
    fields = [_type_of(field.partition("=")[2]) for field in _split(inner)]
    record = record_named(name)
    assert is_record(record)
    if len(set(fields)) == 1:
        return types.NamedUniTuple(fields[0], len(fields), record)
    return types.NamedTuple(fields, record)


def _arguments(kinds: str) -> Any:
    """Return an intrinsic that turns (row, part, parts) into the tuple of a kernel's arguments."""
    wanted = list(map(_type_of, _split(kinds)))

    @intrinsic
    def arguments(_context: Any, row: Any, part: Any, parts: Any) -> Any:
        signature = types.Tuple([*wanted, part, parts])(row, part, parts)

        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            row, part, parts = args
            position = 0

            def cell() -> Any:
                nonlocal position
                position += 1
                return builder.load(builder.gep(row, [INDEX(position - 1)]))

            def array(kind: Any) -> Any:
                result = context.make_array(kind)(context, builder)
                pointer = builder.inttoptr(cell(), context.get_data_type(kind.dtype).as_pointer())
                itemsize = INDEX(context.get_abi_sizeof(context.get_data_type(kind.dtype)))
                arrayobj.populate_array(result, pointer, [cell()], [itemsize], itemsize, meminfo=None)
                return result._getvalue()

            def argument(kind: Any) -> Any:
                if isinstance(kind, types.Array):
                    return array(kind)
                if isinstance(kind, types.BaseTuple):
                    return context.make_tuple(builder, kind, [argument(item) for item in kind])
                if isinstance(kind, types.IntegerLiteral):
                    return INDEX(kind.literal_value)
                if kind == types.float32:
                    return builder.bitcast(builder.trunc(cell(), I32), F32)
                return builder.bitcast(cell(), ir.DoubleType()) if kind == types.float64 else cell()

            return context.make_tuple(builder, sig.return_type, [*map(argument, wanted), part, parts])

        return signature, emit

    return arguments


_PRIMITIVES: dict[str, Any] = {
    emit.__name__: intrinsic(emit)
    for module in (emit_tiles, emit_rows, emit_bytes, emit_blocks, emit_atomics)
    for emit in module.EMITTED
}
