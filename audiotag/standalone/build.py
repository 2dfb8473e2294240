"""Build of the executable: links the kernels of this package with those of a model."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audiotag.errors import ModelError
from audiotag.models.description import Description
from audiotag.models.network import Network
from audiotag.standalone import control, registers
from audiotag.standalone.program import Facts, TaggerProgram
from audiotag.standalone.resampler import TARGET
from tinyonnx import Error as EngineError
from tinyonnx import kernel
from tinyonnx.codegen.arguments import encode
from tinyonnx.codegen.targets import DEFAULT, TARGETS, TargetMachine
from tinyonnx.files import target_of, write_file
from tinyonnx.native import products
from tinyonnx.native.kernels import run_sized, unpack
from tinyonnx.native.levels import units
from tinyonnx.native.sized import lay_out_sizes, plan_for_size
from tinyonnx.native.toolchain import require
from tinyonnx.native.unit import CONSTANTS, RUNS, UNPACKED, UNPACKED_BYTES, WORDS, Unit, UnitLayout

if TYPE_CHECKING:
    from audiotag.models.catalog import ResolvedModel
    from tinyonnx.ir import Array
    from tinyonnx.runtime.sized import SizedPlan

SECONDS = 600
"""Length of the longest clip or window that is tagged in one piece."""

WASM_SECONDS = 60
"""The same in WebAssembly, where all memory is reserved at start."""

_HERE = Path(__file__).parent

PROGRAM = _HERE / "program.mjs"
"""The JavaScript module that runs the WebAssembly module anywhere; `node.mjs` adds node's system calls."""

_FIXED_PLACES = 5
"""Number of places before those for the command line, see `unit`."""


def build_program(model: ResolvedModel, output: Path, target: str = DEFAULT) -> list[Path]:
    """Write the executable for a model and a target (`tinyonnx.codegen.targets`), and return the files written.

    For WebAssembly these are a module and the JavaScript module that runs it in node.

    Raises ModelError if the model is not a tagger or can't be compiled, OSError if the file can't be written.
    """
    machine = TARGETS[target]
    source = model.source if isinstance(model.source, bytes) else str(Path(model.source).resolve())
    name = model.source if isinstance(model.source, str) else model.name
    description = _compilable(Network(source, name))
    try:
        require()
        target_of(output)
        is_wasm = machine.system == "wasm"
        seconds = WASM_SECONDS if is_wasm else SECONDS
        found = units(machine, unit, source, name, _facts(model, description, machine), seconds)
        code = (_HERE / "glue.c").read_text(encoding="ascii")
        places = {f"AT_{r}": getattr(registers, r) for r in ("KERNEL", "ACTION", "PLACE", "COUNT", "RESULT")}
        actions = {f"DO_{a}": getattr(control, a) for a in ("OPEN", "READ", "MODEL", "WRITE", "CLOSE", "EXIT")}
        words = len(found[0].places) - _FIXED_PLACES
        products.link_units(machine, found, code, {**places, **actions, "ARGUMENTS": words}, output)
    except EngineError as error:
        raise ModelError(str(error)) from None
    if not is_wasm:
        return [output]
    script = output.with_suffix(".mjs")
    write_file(script, PROGRAM.read_bytes() + (_HERE / "node.mjs").read_bytes())
    return [output, script]


def _compilable(network: Network) -> Description:
    """The description of a model, if the program can hear as it says. Raises ModelError."""
    description = network.description
    lengths = description.lengths
    reasons = [
        "takes the waveform" if description.features is None else "",
        "takes time before mel bands" if description.layout[-1] == "mel" else "",
        f"hears {description.rate} Hz" if description.rate != TARGET else "",
        f"takes exactly {lengths.fixed:g} s" if lengths.fixed else "",
        f"takes at least {lengths.min:g} s" if lengths.min else "",
        f"takes at most {lengths.max:g} s" if lengths.max else "",
    ]
    if any(reasons):
        raise ModelError(
            f"{network.name}: {', '.join(filter(None, reasons))}; only models of log-mel features at {TARGET} Hz, "
            f"of any length, become executables; use audiotag tag"
        )
    return description


def _facts(model: ResolvedModel, description: Description, target: TargetMachine) -> Facts:
    tools = ", ".join(f"{tool} {version(tool)}" for tool in ("numba", "llvmlite", "ziglang"))
    levels = ", ".join(level.cpu for level in target.levels)
    lower = " (TINYONNX_CPU=v3 or v2 for lower ones)" if len(target.levels) > 1 else ""
    build = f"{target.name}, kernels for {levels}{lower}\nbuilt with {tools}\n"
    return Facts(model.name, model.sha256, model.trained, build, description)


@kernel
def run_model(
    c: Array, words: Array, at: int, count: int, arena: Array, features: Array, logits: Array, part: int, parts: int
) -> None:
    """Run the model; the glue's action MODEL."""
    c[registers.RESULT] = run_sized(c[registers.FRAMES], words, at, count, arena, features, logits)


def unit(source: str | bytes, name: str, facts: Facts, longest: int) -> Unit:
    """Lay out the calls and places that `glue.c` uses.

    Calls: unpacking of the weights, the model, the program's kernels. Places: control, input,
    output, arena, unpacked weights, and for each call with the command line the place of its address.
    A clip or window of up to `longest` seconds is tagged in one piece.
    """
    network = Network(source, name)
    config = network.description.features
    assert config is not None
    program = TaggerProgram(facts, longest)
    layout = UnitLayout()
    layout.map(program.memory, layout.room("program", program.memory.nbytes))
    arrays = program.arrays

    def plan_for(frames: int) -> SizedPlan:
        feeds = network.feeds(np.broadcast_to(np.float32(0), (1, config.n_mels, frames)))
        (only,) = feeds
        plan = plan_for_size(network.session, [network.output], feeds, only, network.description.layout.index("time"))
        (logits,) = plan.plan.graph.outputs
        if logits.dtype != np.float32 or plan.plan.graph.inputs[0].dtype != np.float32:
            raise ModelError(f"{name}: computes {logits.dtype}, only float32 can be compiled")
        if np.prod(logits.static_shape or ()) != network.classes:
            raise ModelError(f"{name}: gives {logits.static_shape} numbers, not {network.classes}")
        return plan

    if network.frames is not None:
        first = last = network.frames
    else:
        first, last = (config.n_frames(seconds * config.rate) for seconds in (0, longest))
    at, count = lay_out_sizes(layout, plan_for, first, last, arrays["features"], arrays["logits"])
    layout.add_call(unpack, (RUNS, CONSTANTS, UNPACKED), "<i8 <u4 <u4")
    arena = layout.room("arena", 0), layout.size("arena") // 4
    layout.add_call(
        run_model,
        (arrays["control"], WORDS, at, count, arena, arrays["features"], arrays["logits"]),
        "<i8 <i8 i i <f4 <f4 <f4",
    )
    for array in (arrays["control"], arrays["input"], arrays["output"]):
        layout.add_place(layout.place(array), array.nbytes)
    layout.add_place(layout.room("arena", 0), layout.size("arena"))
    layout.add_place(*UNPACKED_BYTES)
    for called, arguments in program.kernels:
        row = layout.add_call(called, arguments)
        for index, argument in enumerate(arguments):
            if argument is arrays["arguments"]:
                layout.add_place(row._replace(offset=row.offset + 8 * len(encode(arguments[:index]))), 16)
    return layout.unit
