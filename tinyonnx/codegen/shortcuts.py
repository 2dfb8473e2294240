"""Shortcuts through numba's compiler, which doubles as an interactive one: kernels are compiled once, as a whole.

They leave the code of kernels as it is; compiling takes two thirds of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba.core.codegen
import numba.core.compiler
import numba.core.compiler_machinery
import numba.core.cpu
import numba.core.event
import numba.core.typed_passes
import numba.core.types.functions
import numba.core.untyped_passes

# numba's own annotations cover only a part of it
codegen: Any = numba.core.codegen
cpu: Any = numba.core.cpu
event: Any = numba.core.event
machinery: Any = numba.core.compiler_machinery
typed: Any = numba.core.typed_passes
untyped: Any = numba.core.untyped_passes
BaseFunction: Any = numba.core.types.functions.BaseFunction

_PASSES = (
    untyped.TranslateByteCode,
    untyped.FixupArgs,
    untyped.IRProcessing,
    untyped.RewriteSemanticConstants,
    untyped.DeadBranchPrune,
    untyped.GenericRewrites,
    untyped.ReconstructSSA,
    typed.NopythonTypeInference,
    typed.PreLowerStripPhis,
    typed.NopythonRewrites,
    typed.IRLegalization,
    typed.NativeLowering,
    typed.NoPythonBackend,
)
"""numba's passes, without those for closures, generators, `with`, exceptions and overloads written in Python."""

_ANSWERS = "_tinyonnx_call_types"


class Pipeline(numba.core.compiler.CompilerBase):
    """Compiles with the passes that kernels need."""

    def define_pipelines(self) -> list[Any]:
        """Return the only pipeline."""
        manager = machinery.PassManager("kernels")
        for step in _PASSES:
            manager.add_pass(step, step.__name__)
        manager.finalize()
        return [manager]


def _remembered(resolve: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method that finds the signature of a function for types of arguments keep what it found.

    For each operator in a function numba tries all overloads, and formats a message for each that doesn't fit.
    """

    def get_call_type(function: Any, context: Any, args: Any, kws: Any) -> Any:
        answers = vars(function).setdefault(_ANSWERS, {})
        key = args, tuple(kws.items())
        if key not in answers:
            answers[key] = resolve(function, context, args, kws)
        return answers[key]

    return get_call_type


@contextmanager
def taken() -> Iterator[None]:
    """Take the shortcuts within the block; for the thread with numba's lock.

    Functions are not optimised and assembled one by one, because all of them are linked into the kernel and optimised
    there again; nobody listens to numba's events.
    """
    replaced = {
        (codegen.CPUCodeLibrary, "_optimize_final_module"): lambda library: None,
        (codegen.JITCodeLibrary, "_finalize_specific"): lambda library: None,
        (codegen.JITCPUCodegen, "_add_module"): lambda machine, module: None,
        # the result is never called, but it must be a builtin function, and a different one for each
        (cpu.CPUContext, "get_executable"): lambda *_: [].append,
        (event, "start_event"): lambda *_, **__: None,
        (event, "end_event"): lambda *_, **__: None,
        (BaseFunction, "get_call_type"): _remembered(BaseFunction.get_call_type),
    }
    before = {place: getattr(*place) for place in replaced}
    for (owner, name), function in replaced.items():
        setattr(owner, name, function)
    try:
        yield
    finally:
        for (owner, name), function in before.items():
            setattr(owner, name, function)
