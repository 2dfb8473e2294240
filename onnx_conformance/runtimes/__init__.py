"""The table of runtimes. A further runtime is one more line, and a module beside this one if it needs code."""

from __future__ import annotations

import shlex
import shutil
from functools import partial

from onnx_conformance import ConformanceError
from onnx_conformance.runtimes import (
    backend_module,
    command,
    onnxruntime,
    openvino,
    reference,
    tinyonnx,
    torch,
    tract,
)
from onnx_conformance.runtimes.base import Runtime

UNFUSED = "tinyonnx-unfused"
"""tinyonnx without passes and kernels: the numpy implementation of its operators."""

_LACKS = r"not supported|exists since opset|pip install"
_ORT_LACKS = (
    r"NOT_IMPLEMENTED|NotImplemented|not a registered function/op|under development|Unsupported model"
    r"|not currently registered or supported|Failed to construct locale"
)
_REFERENCE_LACKS = r"NotImplemented|RuntimeImplementationError|No implementation for operator|is not implemented for"
_OPENVINO_LACKS = r"not supported|OpConversionFailure"
_ANY_LACKS = r"[Uu]nsupported|NotImplemented|[Nn]ot (supported|implemented)|NOT_IMPLEMENTED|BackendIsNotSupposedTo"

RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime("tinyonnx", "tinyonnx", "tinyonnx", partial(tinyonnx.start, True), _LACKS),
        Runtime(UNFUSED, "tinyonnx", "tinyonnx", partial(tinyonnx.start, False), _LACKS),
        Runtime("reference", "onnx", "onnx", reference.start, _REFERENCE_LACKS),
        Runtime("onnxruntime", "onnxruntime", "onnxruntime", partial(onnxruntime.start, "ENABLE_ALL"), _ORT_LACKS),
        *(
            Runtime(f"onnxruntime-{name}", "onnxruntime", "onnxruntime", partial(onnxruntime.start, level), _ORT_LACKS)
            for name, level in (
                ("disabled", "DISABLE_ALL"), ("basic", "ENABLE_BASIC"), ("extended", "ENABLE_EXTENDED"),
            )
        ),
        Runtime("openvino", "openvino", "openvino", partial(openvino.start, "f32"), _OPENVINO_LACKS),
        Runtime("openvino-bfloat16", "openvino", "openvino", partial(openvino.start, "bf16"), _OPENVINO_LACKS),
        Runtime("tract", "tract", "tract", tract.start, r"Unimplemented|not implemented|[Uu]nsupported"),
        Runtime("torch", "onnx2torch", "onnx2torch", torch.start, r"NotImplementedError|not support|not implemented"),
    )
}  # fmt: skip
"""Runtimes by name. `find_runtime` also returns those that need a path or a command."""


def find_runtime(name: str) -> Runtime:
    """Return a runtime by its name, `backend:PACKAGE.MODULE[:CLASS]` or `command:PROGRAM ARGUMENTS...`.

    Raises ConformanceError if there is none. The caller is responsible for `Runtime.check_installed`.
    """
    kind, _, rest = name.partition(":")
    if kind == "backend" and rest:
        module = rest.partition(":")[0]
        if not all(map(str.isidentifier, module.split("."))):
            raise ConformanceError(f"{name}: there is no module of this name; write backend:PACKAGE.MODULE[:CLASS]")
        return Runtime(name, module, module.partition(".")[0], partial(backend_module.start, rest), _ANY_LACKS)
    if kind == "command" and rest.strip():
        try:
            program = shlex.split(rest)[0]
        except (ValueError, IndexError) as error:
            raise ConformanceError(f"{name}: is not a command of a shell: {error}") from None
        if shutil.which(program) is None:
            raise ConformanceError(f"{name}: there is no program {program!r}")
        return Runtime(name, "", "", partial(command.start, rest), _ANY_LACKS)
    if name not in RUNTIMES:
        known = ", ".join(RUNTIMES)
        raise ConformanceError(
            f"there is no runtime {name!r}; there are {known}, backend:PACKAGE.MODULE and command:PROGRAM"
        )
    return RUNTIMES[name]
