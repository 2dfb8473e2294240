"""The samples of a run, by number: with the same seed a number always gives the same sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import helper

from onnx_conformance.generate.corpus import Corpus, Operator, load_corpus
from onnx_conformance.generate.draws import Random, coin, one
from onnx_conformance.generate.families import families, family_draft
from onnx_conformance.generate.features import Feature, all_features, fitting, with_feature
from onnx_conformance.generate.idioms import idiom
from onnx_conformance.generate.inference import inferred
from onnx_conformance.generate.mutate import all_operators, mutated, resize
from onnx_conformance.generate.networks import ImageNetwork
from onnx_conformance.generate.sample import Draft, Sample, model_of
from onnx_conformance.generate.sized import ImageGraphs, SequenceGraphs
from onnx_conformance.generate.surround import almost, chained, in_branch, in_loop, in_quantised_pairs
from onnx_conformance.generate.validity import all_nodes

_ATTEMPTS = 12
"""Maximum number of draws for one number, to find a valid model."""

_SEARCHES = 60
"""Maximum number of graphs that are drawn to find one with a certain operator."""

_VERSION, _FEATURE, _FAMILY, _IDIOM, _GRAPH = range(5)

_CYCLE = (_VERSION, _FEATURE, _VERSION, _FEATURE, _FAMILY, _VERSION, _FEATURE, _IDIOM, _VERSION, _FAMILY, _GRAPH,
          _IDIOM)  # fmt: skip
"""Kinds of samples, in turn."""


class SampleSource:
    """Draws samples: every operator and version and every choice in turn, with families, idioms and graphs in between.

    With `operators` every sample has one of these.
    """

    def __init__(self, seed: int, operators: frozenset[str] = frozenset()) -> None:
        self.seed, self.corpus, self._only = seed, load_corpus(), operators
        r = np.random.default_rng(seed)
        everything = [(op, since) for op, since in all_operators() if not operators or op[1] in operators]
        chosen = list(dict.fromkeys(operator for operator, _ in everything))
        self.turns: list[tuple[Operator, int]] = [everything[i] for i in r.permutation(len(everything))]
        features = all_features(self.corpus, chosen)
        self.features = [features[i] for i in r.permutation(len(features))]
        self.families = [operator for operator in families() if operator in chosen]

    def draw(self, number: int) -> Sample | None:
        """Return the sample of this number; None if no valid one was found."""
        r = np.random.default_rng([self.seed, number])
        turn, place = divmod(number, len(_CYCLE))
        kind = _CYCLE[place]
        if kind == _IDIOM:
            return _first_valid(lambda: self._surrounded(r, self._having(lambda: self._pattern(r))))
        if kind == _GRAPH:
            return _first_valid(lambda: self._having(lambda: self._graph(r)))
        index = turn * _CYCLE.count(kind) + _CYCLE[:place].count(kind)
        if kind == _FAMILY and self.families:
            operator = one(r, *self.families)
            return _first_valid(lambda: self._surrounded(r, self._of_family(r, operator)))
        if kind != _VERSION and self.features:
            operator, since, feature = self.features[index % len(self.features)]
            return _first_valid(lambda: self._surrounded(r, self._featured(r, operator, since, feature)))
        operator, since = self.turns[index % len(self.turns)]
        return _first_valid(lambda: self._surrounded(r, self._node(r, operator, since)))

    def _node(self, r: Random, operator: Operator, since: int) -> Sample:
        drafts = _examples(self.corpus, operator)
        if not drafts:
            raise ValueError("no example")
        draft = mutated(r, drafts[r.integers(len(drafts))], self.corpus, since)
        return model_of(draft, f"{operator[1]}-{since}")

    def _of_family(self, r: Random, operator: Operator) -> Sample:
        """Return a node of its family, one time in three with another size of some axes."""
        draft = family_draft(r, operator)
        if not r.integers(3):
            resize(r, draft)
        return model_of(draft, f"family {operator[1]}")

    def _pattern(self, r: Random) -> Sample:
        """Return a pattern for a pass, every second time with one thing changed."""
        sample = idiom(r)
        return almost(r, sample) if coin(r) else sample

    def _featured(self, r: Random, operator: Operator, since: int, feature: Feature) -> Sample:
        """Return a node with this choice: one of its family, or a changed example."""
        drafts = _examples(self.corpus, operator)
        if operator in families() and (not drafts or r.random() < 0.6):
            draft = family_draft(r, operator)
            draft.version = max(draft.version, since)
        elif drafts:
            draft = mutated(r, fitting(r, drafts, feature), self.corpus, since, most=1)
        else:
            raise ValueError("no example")
        with_feature(r, draft, feature)
        return model_of(draft, f"{operator[1]}-{since}, {feature.text}")

    def _having(self, draw: Callable[[], Sample]) -> Sample:
        """Return a graph that has one of the operators of this source. Raises ValueError if none was found."""
        for _ in range(_SEARCHES):
            sample = draw()
            if not self._only or any(node.op_type in self._only for node in all_nodes(sample.model.graph)):
                return sample
        raise ValueError("no graph has one of these operators")

    def _surrounded(self, r: Random, sample: Sample) -> Sample:
        """Return a sample alone, or within further nodes one time in three."""
        if r.integers(3):
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
