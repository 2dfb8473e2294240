"""numba's private interface, of which the compiler uses a part that no release notes mention.

When numba is updated, these tests say what changed; then the bound in pyproject.toml can be raised.
"""

from __future__ import annotations

import ast
import dis
import importlib
import inspect
import pkgutil
import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numba
import numba.core.cgutils
import numba.core.codegen
import numba.core.compiler_lock
import numba.core.cpu
import numba.core.event
import numba.core.options
import numba.core.types.functions
import numba.core.typing.templates
import numba.np.arrayobj
import pytest

import audiotag.features
import audiotag.standalone
import tinyonnx.kernels
import tinyonnx.runtime
from tinyonnx.codegen.kernel import Helper, Primitive

ROOT = Path(__file__).resolve().parents[3]
CODEGEN = numba.core.codegen

PRIVATE = {
    "_ensure_finalized": (CODEGEN.CPUCodeLibrary, ["self"]),
    "_optimize_final_module": (CODEGEN.CPUCodeLibrary, ["self"]),
    "_finalize_specific": (CODEGEN.JITCodeLibrary, ["self"]),
    "_add_module": (CODEGEN.JITCPUCodegen, ["self", "module"]),
    "_get_host_cpu_name": (CODEGEN.CPUCodegen, ["self"]),
    "_create_empty_module": (CODEGEN.CPUCodegen, ["self", "name"]),
}
"""Private methods that the compiler calls or replaces: their class and parameters."""

ATTRIBUTES = {"_tm", "_tm_features", "_getvalue"}
"""Private attributes that it reads from an object."""

INTERNAL = {
    "start_event": (numba.core.event, ["kind", "data"]),
    "end_event": (numba.core.event, ["kind", "data", "exc_details"]),
    "get_call_type": (numba.core.types.functions.BaseFunction, ["self", "context", "args", "kws"]),
    "get_executable": (numba.core.cpu.CPUContext, ["self", "library", "fndesc", "env"]),
    "make_array": (numba.core.cpu.CPUContext, ["self", "typ"]),
    "get_dummy_value": (numba.core.cpu.CPUContext, ["self"]),
    "get_abi_sizeof": (numba.core.cpu.CPUContext, ["self", "ty"]),
    "get_data_type": (numba.core.cpu.CPUContext, ["self", "ty"]),
    "populate_array": (numba.np.arrayobj, ["array", "data", "shape", "strides", "itemsize", "meminfo", "parent"]),
    "alloca_once": (numba.core.cgutils, ["builder", "ty", "size", "name", "zfill"]),
    "unpack_tuple": (numba.core.cgutils, ["builder", "tup", "count"]),
    "get_or_insert_function": (numba.core.cgutils, ["module", "fnty", "name"]),
    "get_llvm_str": (CODEGEN.CPUCodeLibrary, ["self"]),
}
"""Undocumented functions below numba.core and numba.np: their owner and parameters."""


@pytest.mark.parametrize("name", [*PRIVATE, *INTERNAL])
def test_functions_take_what_the_compiler_gives(name: str) -> None:
    owner, expected = {**PRIVATE, **INTERNAL}[name]
    assert list(inspect.signature(getattr(owner, name)).parameters) == expected


def test_attributes_are_there() -> None:
    machine: Any = numba.core.registry.cpu_target.target_context.codegen()
    assert hasattr(machine._tm, "emit_object")
    assert isinstance(machine._tm_features, str)
    assert hasattr(numba.core.cgutils._StructProxy, "_getvalue")
    assert {"_nrt", "no_cpython_wrapper", "no_cfunc_wrapper"} <= set(dir(numba.core.options.DefaultOptions))
    assert numba.core.compiler_lock.global_compiler_lock.is_locked() is False


def _kernel_functions() -> list[Any]:
    """All functions that are compiled, of both packages."""
    found = {}
    for package in (tinyonnx.kernels, tinyonnx.runtime, audiotag.features, audiotag.standalone):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            values = vars(importlib.import_module(module.name)).values()
            found.update({id(v): v.function for v in values if isinstance(v, Helper) and not isinstance(v, Primitive)})
    return list(found.values())


def test_kernels_need_no_pass_that_is_left_out() -> None:
    """numba's passes for closures, `with`, generators, exceptions and questions about types aren't run."""
    functions = _kernel_functions()
    assert len(functions) > 200
    for function in functions:
        name, code = f"{function.__module__}.{function.__name__}", function.__code__
        assert not [value for value in code.co_consts if inspect.iscode(value)], name
        assert not {"isinstance", "hasattr", "getattr", "literally", "literal_unroll"} & {*code.co_names}, name
        steps = {step.opname for step in dis.get_instructions(code)}
        assert not {"RAISE_VARARGS", "BEFORE_WITH", "YIELD_VALUE", "MAKE_FUNCTION"} & steps, name


def test_the_lists_are_complete() -> None:
    used = set()
    for path in (ROOT / "tinyonnx/codegen").glob("*.py"):
        text = path.read_text()
        if re.search(r"^import numba", text, re.MULTILINE):
            tree = ast.parse(text)
            used |= {
                node.attr
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute)
                and node.attr.startswith("_")
                and not node.attr.startswith("__")
                and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
            }
            strings = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
            used |= {text for text in strings if isinstance(text, str) and re.fullmatch(r"_[a-z][a-z_]+", text)}
    assert used - {"_nrt", "_tinyonnx_call_types"} == PRIVATE.keys() | ATTRIBUTES


def test_newer_releases_are_not_installed_untested() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (bounds,) = [re.fullmatch(r"numba>=([\d.]+),<([\d.]+)", entry) for entry in dependencies if "numba" in entry]
    assert bounds
    lowest, above, installed = ([int(n) for n in text.split(".")[:2]] for text in (*bounds.groups(), version("numba")))
    assert lowest <= installed < above
