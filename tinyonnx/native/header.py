"""The C declarations of a compiled model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tinyonnx.dtypes import onnx_type
from tinyonnx.ir import Value
from tinyonnx.native.model import CompileError

_TYPES = {"f4": "float", "f8": "double", "b1": "uint8_t", "f2": "uint16_t"}
_TAKEN = {
    *("auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern"),
    *("float", "for", "goto", "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed"),
    *("sizeof", "static", "struct", "switch", "typedef", "union", "unsigned", "void", "volatile", "while"),
    # the header is also included by C++
    *("alignas", "alignof", "and", "and_eq", "asm", "bitand", "bitor", "bool", "catch", "char16_t", "char32_t"),
    *("char8_t", "class", "co_await", "co_return", "co_yield", "compl", "concept", "const_cast", "consteval"),
    *("constexpr", "constinit", "decltype", "delete", "dynamic_cast", "explicit", "export", "false", "friend"),
    *("mutable", "namespace", "new", "noexcept", "not", "not_eq", "nullptr", "operator", "or", "or_eq", "private"),
    *("protected", "public", "reinterpret_cast", "requires", "static_assert", "static_cast", "template", "this"),
    *("thread_local", "throw", "true", "try", "typeid", "typename", "typeof", "typeof_unqual", "using", "virtual"),
    *("wchar_t", "xor", "xor_eq"),
    # macros of compilers and of stdint.h, and their types
    *("linux", "unix", "i386", *(f"{u}int{n}_t" for u in ("", "u") for n in (8, 16, 32, 64))),
}
"""Names that parameters can't have."""


class Parameter(NamedTuple):
    """An input or output of a model: its name in C, type of elements and shape."""

    name: str
    type: str
    shape: tuple[int, ...]


def parameters(values: Sequence[Value], names: Sequence[str], taken: Iterable[str] = ()) -> list[Parameter]:
    """Return parameters for tensors, named like them as far as C allows.

    Raises CompileError for a type that C lacks.
    """
    used, found = {*taken, *_TAKEN}, []
    for value, name in zip(values, names, strict=True):
        assert value.dtype is not None
        assert value.static_shape is not None
        found.append(Parameter(_identifier(name, used), _type(name, value.dtype), value.static_shape))
        used.add(found[-1].name)
    return found


def function_name(stem: str) -> str:
    """Return the name of the function of a library in a file of that name."""
    return _identifier(stem.removeprefix("lib") or stem, _TAKEN)


def declaration(name: str, inputs: Sequence[Parameter], outputs: Sequence[Parameter]) -> str:
    """Return the function that runs a model."""
    arguments = [f"const {p.type} *{p.name}" for p in inputs] + [f"{p.type} *{p.name}" for p in outputs]
    return f"int {name}_run({', '.join(arguments)})"


def header(name: str, model: str, inputs: Sequence[Parameter], outputs: Sequence[Parameter], levels: int) -> str:
    """Return a header file of a library with that many CPU levels."""
    shapes = "\n".join(f"   {p.name}: {p.type}[{']['.join(map(str, p.shape)) or '1'}]" for p in (*inputs, *outputs))
    guard = f"{name.upper()}_H"
    result, level = _RESULT_X86 if levels > 1 else _RESULT
    if levels > 3:
        level += _BFLOAT16
    return f"""\
#ifndef {guard}
#define {guard}

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

/* Run {_comment(model)}.

{shapes}

   {result} Memory is the library's own: calls must not overlap. */
{declaration(name, inputs, outputs)};

/* {level} */
int {name}_level(int level);

#ifdef __cplusplus
}}
#endif

#endif
"""


_RESULT_X86 = (
    "Returns 0, -1 where the processor lacks x86-64-v2, or -2 for invalid data, such as an index out of range.",
    """Run on the kernels for x86-64-v2, -v3 or -v4 from now on, or on lower ones where the processor lacks these;
   0 for the best, as without a call. Returns the level.""",
)

_BFLOAT16 = """
   On processors with AVX512-BF16 the best is 5: products of bfloat16, with sums in float32."""

_RESULT = (
    "Returns 0, or -2 for invalid data, such as an index out of range.",
    "This library has kernels for one CPU level. Returns 1, its number.",
)


def wrapper(name: str, inputs: Sequence[Parameter], outputs: Sequence[Parameter]) -> str:
    """Return the C file that defines the functions of the header; parameter names don't clash with `library.c`."""
    inputs = [p._replace(name=f"input_{i}") for i, p in enumerate(inputs)]
    outputs = [p._replace(name=f"output_{i}") for i, p in enumerate(outputs)]
    return f"""\
#include "library.c"

PUBLIC {declaration(name, inputs, outputs)} {{
    const void *inputs[] = {{{", ".join(p.name for p in inputs)}}};
    void *outputs[] = {{{", ".join(p.name for p in outputs)}}};
    return run(inputs, outputs);
}}

PUBLIC int {name}_level(int level) {{
    return use(level);
}}
"""


def _identifier(name: str, used: set[str]) -> str:
    text = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not text or text[0].isdigit():
        text = f"_{text}"
    while text in used:
        text += "_"
    return text


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() and c.isascii() else "?" for c in text).replace("*/", "* /")


def _type(name: str, dtype: np.dtype[np.generic]) -> str:
    text = dtype.str[1:]
    if text in _TYPES:
        return _TYPES[text]
    if dtype.kind in "iu":
        return f"{'u' if dtype.kind == 'u' else ''}int{8 * dtype.itemsize}_t"
    raise CompileError(f'can\'t be compiled, C has no type for "{name}", {onnx_type(dtype) or dtype}')
