"""Build of the executable: links the kernels of this package with those of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiotag.errors import ModelError
from audiotag.models.description import Description
from audiotag.models.network import Network
from audiotag.standalone import registers
from audiotag.standalone.program import TaggerProgram
from audiotag.standalone.source import FOLDER, ROOMS, Facts, front_end_sizes
from audiotag.standalone.source import texts as source_texts
from tinyonnx import Error as EngineError
from tinyonnx import kernel
from tinyonnx.codegen.arguments import encode, kinds_of
from tinyonnx.codegen.kernel import Kernel
from tinyonnx.codegen.targets import DEFAULT, TARGETS, TargetMachine
from tinyonnx.files import target_of, write_file
from tinyonnx.native import products
from tinyonnx.native.kernels import bytes_for, run_sized, unpack
from tinyonnx.native.levels import report, units
from tinyonnx.native.sized import SizedModel, lay_out_sizes, plan_for_size
from tinyonnx.native.toolchain import require
from tinyonnx.native.unit import UNPACK, UNPACK_KINDS, UNPACKED_BYTES, WORDS, Place, Unit, UnitLayout

if TYPE_CHECKING:
    from audiotag.models.catalog import ResolvedModel
    from tinyonnx.ir import Array
    from tinyonnx.runtime.sized import SizedPlan

SECONDS, WAVEFORM_SECONDS = 600, 120
"""Length of the longest clip or window that is tagged in one piece, by a model of features or of waveforms."""

_HERE = Path(__file__).parent

SOURCES = sorted(FOLDER.glob("*.c"))
"""Sources of the C front end."""

PROGRAM = _HERE / "program.mjs"
"""The JavaScript module that runs the WebAssembly module anywhere; `node.mjs` adds node's system calls."""


def build_program(model: ResolvedModel, output: Path, target: str = DEFAULT, precision: str = "float32") -> list[Path]:
    """Write the executable for a model and a target (`tinyonnx.codegen.targets`), and return the files written.

    For WebAssembly these are a module and the JavaScript module that runs it in node. With the precision "bfloat16"
    weights of large products take two bytes, and their other operands are rounded, too, where the processor has
    AVX512-BF16.

    Raises ModelError if the model is not a tagger or can't be compiled, OSError if the file can't be written.
    """
    machine = TARGETS[target]
    source = model.source if isinstance(model.source, bytes) else str(Path(model.source).resolve())
    name = model.source if isinstance(model.source, str) else model.name
    network = Network(model.source, name)
    description = network.description
    seconds = SECONDS if description.features else WAVEFORM_SECONDS
    try:
        require()
        target_of(output)
        facts = _facts(model, description, machine, precision)
        means = network.session.operand_means() if precision == "bfloat16" else None
        found = units(machine, unit, source, name, seconds, means, precision=precision)
        texts, macros = source_texts(facts, seconds), products.level_macros(machine, precision)
        sources = [*SOURCES, products.PROCESS]
        products.link_units(machine, found, texts, output, macros=macros, sources=sources)
    except EngineError as error:
        raise ModelError(str(error)) from None
    if machine.system != "wasm":
        return [output]
    script = output.with_suffix(".mjs")
    write_file(script, PROGRAM.read_bytes() + (_HERE / "node.mjs").read_bytes())
    return [output, script]


def _facts(model: ResolvedModel, description: Description, target: TargetMachine, precision: str) -> Facts:
    tools = ", ".join(f"{tool} {version(tool)}" for tool in ("numba", "llvmlite", "ziglang"))
    levels = ", ".join(level.label for level in target.levels_for(precision))
    lower = " (TINYONNX_CPU=v3 or v2 for lower ones)" if len(target.levels) > 1 else ""
    weights = "" if precision == "float32" else f"weights in {precision}\n"
    build = f"{weights}{target.name}, kernels for {levels}{lower}\nbuilt with {tools}\n"
    return Facts(model.name, model.sha256, model.trained, build, description, precision)


@kernel
def run_model(
    n: Array, words: Array, at: int, count: int, arena: Array, features: Array, logits: Array, part: int, parts: int
) -> None:
    """Run the model on FRAMES frames; RESULT is 0."""
    n[registers.RESULT] = run_sized(n[registers.FRAMES], words, at, count, arena, features, logits)


@kernel
def size_model(n: Array, words: Array, at: int, count: int, part: int, parts: int) -> None:
    """Set RESULT to the bytes of the model's memory for FRAMES frames, -1 if it takes no clip of that length."""
    n[registers.RESULT] = bytes_for(n[registers.FRAMES], words, at, count)


def unit(source: str | bytes, name: str, longest: int, means: Mapping[str, Array] | None) -> Unit:
    """Lay out the calls and places that the C front end uses: `source.CALLS`, `PLACES` and `ROOMS`.

    A clip or window of up to `longest` seconds is tagged in one piece. Weights are rounded to bfloat16 if `means` are
    given.
    """
    # this process may compile for another machine: it runs nothing
    network = Network(source, name, precision="float32" if means is None else "bfloat16", probe=False)
    if means is not None:
        network.session.round_weights(means)
    program = TaggerProgram(network.description)
    layout = UnitLayout()
    layout.map(program.memory, layout.room("program", program.memory.nbytes))
    arrays = program.arrays
    model = _lay_out_model(layout, network, longest)
    arena = np.empty(0, np.float32)
    layout.add_call(unpack, UNPACK, UNPACK_KINDS)
    mapped = {id(arrays["tape"]): "TAPE", id(arrays["features"]): "FEATURES", id(arena): "ARENA"}
    cells: dict[str, list[Place]] = {room: [] for room in ROOMS}

    def add(called: Kernel, arguments: Sequence[Any], kinds: str) -> None:
        """Add a call, with zeros for the address and the length of mapped memory."""
        given = [zero for x in arguments for zero in ((0, 0) if id(x) in mapped else (x,))]
        row = layout.add_call(called, given, kinds)
        at = 0
        for argument in arguments:
            if id(argument) in mapped:
                cells[mapped[id(argument)]].append(row._replace(offset=row.offset + 8 * at))
            at += 2 if isinstance(argument, tuple) and isinstance(argument[0], Place) else len(encode([argument]))

    integers, features, logits = arrays["integers"], arrays["features"], arrays["logits"]
    add(run_model, (integers, WORDS, model.at, model.variants, arena, features, logits), "<i8 <i8 i i <f4 <f4 <f4")
    add(size_model, (integers, WORDS, model.at, model.variants), "<i8 <i8 i i")
    for called, arguments in program.kernels:
        add(called, arguments, kinds_of(arguments))
    for array in program.places:
        layout.add_place(layout.place(array), array.nbytes)
    layout.add_place(*UNPACKED_BYTES)
    assert {room: len(found) for room, found in cells.items()} == ROOMS
    for found in cells.values():
        for cell in found:
            layout.add_place(cell, 16)
    return layout.finished(report)


def _lay_out_model(layout: UnitLayout, network: Network, longest: int) -> SizedModel:
    """Lay out a model for clips of up to `longest` seconds. Raises ModelError, and the errors of planning."""
    description = network.description
    axes, ends = description.layout, front_end_sizes(description, longest)
    time = axes.index("time" if description.features else "samples")
    # features are rows of frames
    swapped = (axes.index("mel"), time) if description.features and time < axes.index("mel") else None

    def plan_for(frames: int) -> SizedPlan:
        feeds = network.feeds(np.broadcast_to(np.float32(0), (1, ends.n_mels, frames)))
        (only,) = feeds
        plan = plan_for_size(network.session, [network.output], feeds, only, time)
        (logits,) = plan.plan.graph.outputs
        if logits.dtype != np.float32 or plan.plan.graph.inputs[0].dtype != np.float32:
            raise ModelError(f"{network.name}: computes {logits.dtype}, only float32 can be compiled")
        if np.prod(logits.static_shape or ()) != network.classes:
            raise ModelError(f"{network.name}: gives {logits.static_shape} numbers, not {network.classes}")
        return plan

    if network.frames is not None:
        return lay_out_sizes(layout, plan_for, network.frames, network.frames, swapped)
    first = _least(plan_for, ends.frames_of(0), ends.frames_of(description.rate))
    return lay_out_sizes(layout, plan_for, first, ends.longest_frames, swapped)


def _least(plan_for: Callable[[int], SizedPlan], first: int, last: int) -> int:
    """Return the least size from `first` on that a model takes. Raises the errors of planning if it takes none."""
    try:
        plan_for(first)
        return first
    except EngineError:
        plan_for(last)
    while last - first > 1:
        middle = (first + last) // 2
        try:
            plan_for(middle)
        except EngineError:
            first = middle
        else:
            last = middle
    return last
