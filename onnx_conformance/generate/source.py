"""The samples of a run, by number: with the same seed a number always gives the same sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from onnx_conformance.generate.corpus import Corpus, Operator, load_corpus
from onnx_conformance.generate.draws import Random, RandomNode, one
from onnx_conformance.generate.idioms import idiom
from onnx_conformance.generate.mutate import all_operators, mutated
from onnx_conformance.generate.networks import ImageNetwork
from onnx_conformance.generate.nodes import FAMILIES
from onnx_conformance.generate.sample import Draft, Sample, inferred, model_of
from onnx_conformance.generate.sized import ImageGraphs, SequenceGraphs
from onnx_conformance.generate.surround import chained, in_branch, in_loop, in_quantised_pairs

_ATTEMPTS = 12
"""Maximum number of mutations of an operator that are tried to find a valid model."""


class SampleSource:
    """Draws samples: every operator and version in turn, with families, idioms and graphs in between."""

    def __init__(self, seed: int, operators: frozenset[str] = frozenset()) -> None:
        self.seed, self.corpus = seed, load_corpus()
        everything = [(op, since) for op, since in all_operators() if not operators or op[1] in operators]
        order = np.random.default_rng(seed).permutation(len(everything))
        self.turns: list[tuple[Operator, int]] = [everything[i] for i in order]
        self._only = operators

    def draw(self, number: int) -> Sample | None:
        """Return the sample of this number; None if no valid one was found."""
        r = np.random.default_rng([self.seed, number])
        kind = number % 8
        if kind < 4 or self._only:
            index = number // 8 * 4 + kind if not self._only else number
            operator, since = self.turns[index % len(self.turns)]
            return _first_valid(lambda: self._surrounded(r, self._node(r, operator, since), number))
        if kind < 6:
            return _first_valid(lambda: self._surrounded(r, _family(r), number))
        if kind == 6:
            return _first_valid(lambda: self._surrounded(r, idiom(r), number))
        return _first_valid(lambda: self._graph(r))

    def _node(self, r: Random, operator: Operator, since: int) -> Sample:
        drafts = _examples(self.corpus, operator)
        if not drafts:
            raise ValueError("no example")
        draft = mutated(r, drafts[r.integers(len(drafts))], self.corpus, since)
        return model_of(draft, f"{operator[1]}-{since}")

    def _surrounded(self, r: Random, sample: Sample, number: int) -> Sample:
        """Return a sample alone, or within further nodes every third time."""
        if number % 3:
            return sample
        around = one(r, chained, chained, in_quantised_pairs, in_branch, in_loop)
        try:
            return around(r, sample)  # type: ignore[no-any-return]  # `one` chooses among functions of one type
        except ValueError:
            return sample

    def _graph(self, r: Random) -> Sample:
        seed = int(r.integers(1 << 31))
        match r.integers(5):
            case 0:
                dtype = one(r, np.float32, np.float32, np.float16, np.float64)
                return _fed(r, ImageNetwork(seed, dtype, int(one(r, 13, 17, 20))).build(), f"network {seed}")
            case 1:
                return _fed(r, ImageGraphs(seed).build(), f"images {seed}")
            case 2:
                return _fed(r, SequenceGraphs(seed).build(), f"sequences {seed}")
            case 3:
                network = ImageNetwork(seed, np.float32, int(one(r, 13, 17, 20)))
                return in_quantised_pairs(r, _fed(r, network.build(), f"network {seed}"))
            case _:
                sample = self.corpus.graphs[r.integers(len(self.corpus.graphs))]
                return Sample(inferred(sample.model), sample.feeds, sample.origin)


def _first_valid(draw: Any) -> Sample | None:
    for _ in range(_ATTEMPTS):
        try:
            sample: Sample = draw()
            return sample
        except (
            ValueError,
            IndexError,
            TypeError,
            OverflowError,
            ArithmeticError,
        ):  # some mutations are not valid models
            continue
    return None


def _examples(corpus: Corpus, operator: Operator) -> list[Draft]:
    return corpus.nodes.get(operator, [])


def _family(r: Random) -> Sample:
    """Return a node of the families of operators, whose shapes and attributes are drawn together."""
    case: RandomNode = FAMILIES[r.integers(len(FAMILIES))](r)
    outputs = [f"y{i}" for i in range(case.outputs)]
    node = helper.make_node(case.op, [f"x{i}" for i in range(len(case.inputs))], outputs, **case.attributes)
    values = [None if x is None else np.asarray(x) for x in case.inputs]
    return model_of(Draft(node, values, case.opset, {}, set(case.constants)), f"family {case.op}")


def _fed(r: Random, model: Any, origin: str) -> Sample:
    """Return a network with normally distributed inputs; sizes that it leaves open are drawn."""
    sizes: dict[str, int] = {"batch": int(r.integers(1, 3)), "height": int(r.integers(9, 24)),
                             "width": int(r.integers(9, 24)), "length": int(r.integers(2, 20))}  # fmt: skip
    feeds = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = [dim.dim_value or sizes.get(dim.dim_param, 5) for dim in kind.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        feeds[value.name] = r.standard_normal(shape).astype(dtype)
    return Sample(inferred(model), feeds, origin)
