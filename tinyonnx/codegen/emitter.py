"""Shorthand for LLVM code on vectors of LANES floats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from tinyonnx.codegen.primitives import CLIP, HARD_SWISH, LANES, POSTPONED
from tinyonnx.codegen.processor import has_bfloat16


class _BFloat(ir.types.Type):  # type: ignore[misc]
    """LLVM's bfloat, for which llvmlite has no class."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


F32, I32, INDEX = ir.FloatType(), ir.IntType(32), ir.IntType(64)
VECTOR = ir.VectorType(F32, LANES)
PAIRS_OF_BFLOAT16 = ir.VectorType(_BFloat(), 2 * LANES)


class Emitter:
    """Emits code on vectors of LANES floats, and of half as many, at the builder's position."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def intrinsic(self, name: str, result: Any, *arguments: Any) -> Any:
        kind = ir.FunctionType(result, [a.type for a in arguments])
        module = self.builder.module
        function = module.globals.get(name) or ir.Function(module, kind, name)
        return self.builder.call(function, arguments)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return self.intrinsic(f"llvm.fmuladd.v{a.type.count}f32", a.type, a, b, c)

    def add_pair_products(self, a: Any, b: Any, total: Any) -> Any:
        """Return total + a·b of vectors whose lanes are pairs of bfloat16; needs AVX512-BF16.

        The product may load `a`.
        """
        kind = ir.VectorType(_BFloat(), 2 * total.type.count)
        pairs = (self.builder.bitcast(value, kind) for value in (b, a))
        return self.intrinsic(f"llvm.x86.avx512bf16.dpbf16ps.{32 * total.type.count}", total.type, total, *pairs)

    def pairs(self, first: Any, second: Any) -> Any:
        """Round two vectors of floats to bfloat16 and return them as the lanes of one vector, with AVX512-BF16.

        On other machines the code is emitted as well, because kernels choose at run time, but never runs.
        """
        if not has_bfloat16():
            return first
        name = "llvm.x86.avx512bf16.cvtne2ps2bf16.512"
        return self.builder.bitcast(self.intrinsic(name, PAIRS_OF_BFLOAT16, second, first), VECTOR)

    def at(self, pointer: Any, *offsets: Any) -> Any:
        for offset in offsets:
            pointer = self.builder.gep(pointer, [INDEX(offset) if isinstance(offset, int) else offset])
        return pointer

    def times(self, step: Any, count: int) -> Any:
        return self.builder.mul(step, INDEX(count))

    def splat(self, scalar: Any, width: int = LANES) -> Any:
        """Return a vector of `width` times a scalar."""
        undefined = ir.Constant(ir.VectorType(scalar.type, width), ir.Undefined)
        one = self.builder.insert_element(undefined, scalar, I32(0))
        return self.builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, width), None))

    def first(self, lanes: Any, width: int = LANES) -> Any:
        """Return the mask of the first `lanes` of `width` lanes."""
        count = self.splat(self.builder.trunc(lanes, I32), width)
        return self.builder.icmp_signed("<", ir.Constant(count.type, list(range(width))), count)

    def load(self, pointer: Any, mask: Any = None, width: int = LANES) -> Any:
        kind = ir.VectorType(F32, width)
        pointer = self.builder.bitcast(pointer, kind.as_pointer())
        if mask is not None:
            name = f"llvm.masked.load.v{width}f32.p0"
            return self.intrinsic(name, kind, pointer, I32(4), mask, ir.Constant(kind, None))
        loaded = self.builder.load(pointer)
        loaded.align = 4
        return loaded

    def store(self, value: Any, pointer: Any, mask: Any = None) -> None:
        pointer = self.builder.bitcast(pointer, value.type.as_pointer())
        if mask is not None:
            name = f"llvm.masked.store.v{value.type.count}f32.p0"
            self.intrinsic(name, ir.VoidType(), value, pointer, I32(4), mask)
        else:
            self.builder.store(value, pointer).align = 4

    def clip(self, value: Any, low: Any, high: Any) -> Any:
        """Clip to [low, high]; NaN stays NaN, because comparisons with it are false."""
        value = self.builder.select(self.builder.fcmp_ordered(">", low, value), low, value)
        return self.builder.select(self.builder.fcmp_ordered("<", high, value), high, value)

    def loop(self, count: Any, carried: list[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        """Emit `for i in range(count): carried = body(i, carried)`; return the last `carried`."""
        b = self.builder
        entry = b.block
        head, inside, done = (b.append_basic_block(name) for name in ("loop", "body", "done"))
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(INDEX)
        phis = [b.phi(value.type) for value in carried]
        b.cbranch(b.icmp_signed("<", i, count), inside, done)
        b.position_at_end(inside)
        results = body(i, list(phis))
        i.add_incoming(INDEX(0), entry)
        i.add_incoming(b.add(i, INDEX(1)), b.block)
        for phi, before, after in zip(phis, carried, results, strict=True):
            phi.add_incoming(before, entry)
            phi.add_incoming(after, b.block)
        b.branch(head)
        b.position_at_end(done)
        return list(phis)

    def either(self, cases: list[tuple[Any, Callable[[list[Any]], list[Any]]]], values: list[Any]) -> list[Any]:
        """Emit a chain of if and else that replaces `values` in the first case whose condition holds."""
        b = self.builder
        done = b.append_basic_block("chosen")
        ends = []
        for condition, rewrite in cases:
            yes, no = b.append_basic_block("yes"), b.append_basic_block("no")
            b.cbranch(condition, yes, no)
            b.position_at_end(yes)
            ends.append((rewrite(values), b.block))
            b.branch(done)
            b.position_at_end(no)
        ends.append((values, b.block))
        b.branch(done)
        b.position_at_end(done)
        phis = [b.phi(value.type) for value in values]
        for results, block in ends:
            for phi, result in zip(phis, results, strict=True):
                phi.add_incoming(result, block)
        return list(phis)

    def finish(self, values: list[Any], offsets: list[Any], out: Any, epilogue: Any, mask: Any) -> list[Any]:
        """Apply the epilogue, store value i at offset i, and return the stored values.

        `out` (with its residual) and `epilogue` are unpacked records.
        """
        b = self.builder
        width = values[0].type.count if values else LANES  # tiles of 0 rows are compiled, but never run
        is_code = [b.icmp_signed("==", epilogue.activation, INDEX(i)) for i in range(POSTPONED)]

        def add(values: list[Any]) -> list[Any]:
            others = [self.load(self.at(out.residual, offset), mask, width) for offset in offsets]
            return [b.fadd(v, other) for v, other in zip(values, others, strict=True)]

        def clip(values: list[Any]) -> list[Any]:
            low, high = self.splat(epilogue.alpha, width), self.splat(epilogue.beta, width)
            return [self.clip(v, low, high) for v in values]

        def hard_swish(values: list[Any]) -> list[Any]:
            kind = ir.VectorType(F32, width)
            sixth, half, zero, one = (ir.Constant(kind, [c] * width) for c in (1 / 6, 0.5, 0.0, 1.0))
            return [b.fmul(v, self.clip(self.fma(v, sixth, half), zero, one)) for v in values]

        values = self.either([(b.icmp_signed("!=", epilogue.residual, INDEX(0)), add)], values)
        values = self.either([(is_code[CLIP], clip), (is_code[HARD_SWISH], hard_swish)], values)
        for value, offset in zip(values, offsets, strict=True):
            self.store(value, self.at(out.data, offset), mask)
        return values

    def add_up(self, values: list[Any], skip: Any, total: Any, mask: Any) -> None:
        """Add the sum of the values after the first `skip` to the vector at `total`.

        If all are skipped, `total` is unchanged.
        """
        b = self.builder
        width = values[0].type.count
        zero = ir.Constant(values[0].type, [0.0] * width)

        def cut(values: list[Any]) -> list[Any]:
            return [b.select(b.icmp_signed("<", INDEX(i), skip), zero, v) for i, v in enumerate(values)]

        with b.if_then(b.icmp_signed("<", skip, INDEX(len(values)))):
            values = self.either([(b.icmp_signed("!=", skip, INDEX(0)), cut)], values)
            while len(values) > 1:
                values = [
                    b.fadd(*values[i : i + 2]) if i + 1 < len(values) else values[i] for i in range(0, len(values), 2)
                ]
            self.store(b.fadd(self.load(total, mask, width), values[0]), total, mask)
