"""Executables and libraries of a model for given shapes of its inputs."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tinyonnx.codegen.targets import DEFAULT, TARGETS, TargetMachine
from tinyonnx.files import target_of, write_file
from tinyonnx.ir import Array
from tinyonnx.native import binary, toolchain
from tinyonnx.native.dialects import DIALECTS
from tinyonnx.native.header import Parameter, function_name, header, parameters, wrapper
from tinyonnx.native.kernels import run_steps, unpack
from tinyonnx.native.levels import report, units
from tinyonnx.native.model import LaidOutLoop, LaidOutSteps, bind, plan_of, virtual
from tinyonnx.native.unit import UNPACK, UNPACK_KINDS, UNPACKED_BYTES, WORDS, Place, Unit, UnitLayout
from tinyonnx.ort.options import SessionOptions
from tinyonnx.ort.session import InferenceSession
from tinyonnx.runtime.loop_steps import repeat

HERE = Path(__file__).parent

PROCESS = HERE / "process.c"
"""Source of system calls and of the entry point of executables; it includes the part that all binaries have."""


def compile_model(
    source: str | bytes,
    feeds: Mapping[str, Array],
    output: str | os.PathLike[str],
    target: str = DEFAULT,
    precision: str = "float32",
) -> list[Path]:
    """Make native code of a model, for inputs of the shapes and types of `feeds`.

    A file `*.so` (Windows: `*.dll`, macOS: `*.dylib`) is a shared library, with a header beside it; any other an
    executable that reads all inputs from its standard input, as they lie in memory and in their order, and writes the
    outputs to its standard output. For WebAssembly it is a module, with a JavaScript module beside it.

    With the precision "bfloat16" weights of large products are bfloat16, and so are their other operands where the
    processor has AVX512-BF16, for which there is a level of its own.

    Returns the files that were written. Raises CompileError, and the errors of loading and planning.
    """
    machine = TARGETS[target]
    session = InferenceSession(source)
    plan = plan_of(session, None, feeds)
    output = Path(output)
    toolchain.require()
    target_of(output)
    names = [value.name for value in session.graph.inputs]
    inputs = parameters(plan.graph.inputs, names)
    outputs = parameters(plan.graph.outputs, session.graph.output_names, {p.name for p in inputs})
    macros = {
        "INPUTS": len(inputs),
        "OUTPUTS": len(outputs),
        "CHECKED": int(plan.status is not None),
        **level_macros(machine, precision),
    }
    means = session.operand_means() if precision == "bfloat16" else None
    found = units(machine, model_unit, source, {name: feeds[name] for name in names}, means, precision=precision)
    if machine.system == "wasm":
        link_units(machine, found, {}, output, macros=macros, sources=[HERE / "module.c"])
        inputs = [p._replace(name=name) for p, name in zip(inputs, names)]
        outputs = [p._replace(name=name) for p, name in zip(outputs, session.graph.output_names)]
        return [output, _write_javascript(output, inputs, outputs)]
    if output.suffix != machine.suffix:
        link_units(machine, found, {}, output, macros=macros, sources=[HERE / "executable.c", PROCESS])
        return [output]
    name = function_name(output.stem)
    code = {"wrapper.c": wrapper(name, inputs, outputs)}
    link_units(machine, found, code, output, macros=macros, shared=True)
    text = header(name, os.path.basename(session.name), inputs, outputs, len(found))
    write_file(output.with_suffix(".h"), text.encode("ascii"))
    return [output, output.with_suffix(".h")]


def _write_javascript(output: Path, inputs: Sequence[Parameter], outputs: Sequence[Parameter]) -> Path:
    """Write the JavaScript module that loads and runs a WebAssembly module, beside it."""
    lists = {"inputs": inputs, "outputs": outputs}
    lines = ["// Loads and runs the WebAssembly module of the same name."]
    for name, found in lists.items():
        shown = [{"name": p.name, "type": p.type, "shape": p.shape} for p in found]
        lines.append(f"export const {name} = {json.dumps(shown)};")
    code = "\n".join(lines) + "\n" + (HERE / "module.mjs").read_text(encoding="ascii")
    write_file(output.with_suffix(".mjs"), code.encode("ascii"))
    return output.with_suffix(".mjs")


def level_macros(target: TargetMachine, precision: str) -> dict[str, int]:
    """Return the macros that tell C which levels there are."""
    return {"BFLOAT16": 1} if len(target.levels_for(precision)) > len(target.levels) else {}


def model_unit(source: str | bytes, feeds: Mapping[str, Array], means: Mapping[str, Array] | None) -> Unit:
    """Return a unit whose call 0 prepares the memory and call 1 runs the model.

    Places: inputs, outputs, arena, weights. Weights are rounded to bfloat16 if `means` are given.
    """
    options = SessionOptions()
    options.precision = "float32" if means is None else "bfloat16"
    session = InferenceSession(source, options)
    if means is not None:
        session.round_weights(means)
    plan = plan_of(session, None, feeds)
    layout = UnitLayout()
    bound = bind(layout, plan, virtual(plan.arena_bytes))
    arena = layout.room("arena", 0), plan.arena_bytes
    first, last = _add_steps(layout, bound.steps, arena)
    layout.add_call(unpack, UNPACK, UNPACK_KINDS)
    layout.add_call(run_steps, (WORDS, arena, first, last), "<i8 |u1 i i")
    for place, size in (*bound.inputs, *bound.outputs):
        layout.add_place(place, size)
    layout.add_place(*arena)
    layout.add_place(*UNPACKED_BYTES)
    return layout.finished(report)


def _add_steps(layout: UnitLayout, steps: LaidOutSteps, arena: tuple[Place, int]) -> tuple[int, int]:
    """Add a table of steps, after those of the loops in it; return the first one, and the one after the last."""
    kernels, rows, kinds = [], [], "<i8 |u1 i i i"
    for step in steps:
        if isinstance(step, LaidOutLoop):
            kernels.append(layout.kernel(repeat, kinds))
            rows.append(
                layout.add_words(layout.cells((WORDS, arena, *_add_steps(layout, step.steps, arena), step.going)))
            )
        else:
            kernels.append(layout.kernel(step.kernel, step.kinds))
            rows.append(layout.add_words(step.cells))
    return layout.add_table(kernels, rows, [step.guard for step in steps])


def link_units(
    target: TargetMachine,
    found: Sequence[Unit],
    texts: Mapping[str, str],
    output: Path,
    *,
    macros: Mapping[str, int] | None = None,
    sources: Sequence[Path] = (),
    shared: bool = False,
) -> None:
    """Link units of a target and C files, which see `macros`, into a file.

    `texts` are C files and headers by name, `sources` files; both find the headers of their folders. WebAssembly is
    downloaded: its constants are stored as float16 where that gives the same bits.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            (Path(folder) / name).write_text(text, encoding="ascii")
        code = [Path(folder) / name for name in texts if name.endswith(".c")]
        files = binary.write(found, Path(folder), DIALECTS[target.object_format], halve=target.system == "wasm")
        built = Path(folder) / "built"
        include = [HERE, Path(folder), *sorted({path.parent for path in sources} - {HERE})]
        toolchain.link(target, [*code, *sources, *files], built, shared, macros or {}, include)
        write_file(output, built.read_bytes(), 0o777)
