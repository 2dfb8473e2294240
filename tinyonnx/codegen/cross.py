"""numba's code generator for a machine other than the one that it runs on."""

from __future__ import annotations

from typing import Any

import numba.core.codegen

from tinyonnx.codegen.processor import processor
from tinyonnx.codegen.targets import TargetMachine, chosen
from tinyonnx.errors import Error

# numba's own annotations cover only a part of it
codegen: Any = numba.core.codegen


class _Codegen(codegen.JITCPUCodegen):  # type: ignore[misc]
    """Emits code with the data layout of the chosen target, optimised by its cost model; the code can't be run here."""

    target: TargetMachine

    def _init(self, llvm_module: Any) -> None:
        self._tm_features = self._get_host_cpu_features()
        self._tm = machine(self.target, self._get_host_cpu_name(), self._tm_features)
        self._target_data = self._tm.target_data
        self._data_layout = str(self._target_data)
        self._loopvect, self._opt_level = False, 0
        self._engine = None

    def _create_empty_module(self, name: str) -> Any:
        module = super()._create_empty_module(name)
        module.triple = self.target.triple
        return module

    def _get_host_cpu_name(self) -> str:
        return processor().name

    def _add_module(self, module: Any) -> None:
        pass

    def set_env(self, env_name: str, env: Any) -> None:
        pass


def machine(target: TargetMachine, cpu: str, features: str) -> Any:
    """Return LLVM's target machine for position-independent code. Raises Error if this LLVM has no such target."""
    codegen.ll.initialize_all_targets()
    codegen.ll.initialize_all_asmprinters()
    try:
        found = codegen.ll.Target.from_triple(target.triple)
    except RuntimeError as error:
        raise Error(f"the installed llvmlite can't generate code for {target.name}: {error}") from None
    return found.create_target_machine(cpu=cpu, features=features, opt=3, reloc="pic", codemodel="small")


def install() -> None:
    """Let numba generate code for the target that the environment names, if any."""
    target = chosen()
    if target is not None:
        _Codegen.target = target
        codegen.JITCPUCodegen = _Codegen
