"""Einsum as MatMul, Mul, ReduceSum and moves of axes: the same numbers as the operator, for any equation."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import helper

import tinyonnx
from tests.tinyonnx.passes.conftest import data

Shape = Sequence[int | str]


def sessions(equation: str, shapes: Sequence[Shape], kind: int = 1) -> list[tinyonnx.InferenceSession]:
    """Return a session that optimises, and one that doesn't, of an Einsum of inputs x0, x1, …"""
    names = [f"x{i}" for i in range(len(shapes))]
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, shape in zip(names, shapes)]
    node = helper.make_node("Einsum", names, ["y"], equation=equation)
    graph = helper.make_graph([node], "sum", inputs, [helper.make_tensor_value_info("y", kind, None)])
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    plain = tinyonnx.SessionOptions()
    plain.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    return [tinyonnx.InferenceSession(content), tinyonnx.InferenceSession(content, plain)]


def feeds_of(shapes: Sequence[Sequence[int]]) -> dict[str, Any]:
    return {f"x{i}": data(*shape, seed=i) for i, shape in enumerate(shapes)}


def operators(session: tinyonnx.InferenceSession, feeds: dict[str, Any]) -> list[str]:
    return [node.op_type for node in session.plan_for(None, feeds).graph.nodes]


def check(equation: str, *shapes: Sequence[int], lowered: bool = True) -> list[str]:
    """Compare both sessions; return the operators of the plan."""
    feeds = feeds_of(shapes)
    session, plain = sessions(equation, shapes)
    (ours,), (expected,) = session.run(None, feeds), plain.run(None, feeds)
    assert (ours.shape, ours.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
    found = operators(session, feeds)
    assert ("Einsum" not in found) == lowered
    return found


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("ij, jk", [(2, 3), (3, 4)]),
        ("ij,jk->ki", [(2, 3), (3, 4)]),
        ("bij,bjk->bik", [(5, 2, 3), (5, 3, 4)]),
        ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("bqhd,bkhd->bhqk", [(2, 4, 3, 5), (2, 6, 3, 5)]),
        ("bhqk,bkhd->bqhd", [(2, 3, 4, 6), (2, 6, 3, 5)]),
        ("bhwc,hkc->bhwk", [(2, 3, 4, 5), (3, 6, 5)]),
        ("nctkv,kvw->nctw", [(2, 3, 4, 5, 6), (5, 6, 7)]),
        ("...ij,...jk->...ik", [(5, 6, 2, 3), (5, 6, 3, 4)]),
        ("...ij,...jk->...ik", [(5, 1, 2, 3), (1, 6, 3, 4)]),
        ("...ij,jk->...ik", [(5, 6, 2, 3), (3, 4)]),
        ("...ij,...jk->ik", [(5, 2, 3), (5, 3, 4)]),
        ("...i,...i", [(2, 3, 4), (2, 3, 4)]),
        ("b...,b...->...", [(2, 3, 4), (2, 3, 4)]),
        ("i,j", [(3,), (4,)]),
        ("i,i", [(3,), (3,)]),
        ("i,i->i", [(3,), (3,)]),
        ("ij,ij->ij", [(3, 4), (3, 4)]),
        ("ij,ji->ij", [(3, 4), (4, 3)]),
        ("ij,i->ji", [(3, 4), (3,)]),
        ("bi,bi->b", [(3, 4), (3, 4)]),
        ("ij,kl->", [(3, 4), (2, 5)]),
        ("ij,kl->lk", [(3, 4), (2, 5)]),
        ("ij,jk->ik", [(2, 1), (3, 4)]),
        ("ij,ij->ij", [(1, 4), (3, 1)]),
        ("ij,jk->ijk", [(1, 1), (1, 1)]),
        ("ij,jk->", [(1, 1), (1, 1)]),
        (",i->i", [(), (3,)]),
        (",", [(), ()]),
        ("ii", [(4, 4)]),
        ("ii->i", [(4, 4)]),
        ("iij->ij", [(4, 4, 3)]),
        ("iji->j", [(4, 3, 4)]),
        ("iii->i", [(3, 3, 3)]),
        ("iijj->ji", [(3, 3, 2, 2)]),
        ("ii,ij->j", [(3, 3), (3, 2)]),
        ("ijk->kj", [(2, 3, 4)]),
        ("ijk->kij", [(2, 3, 4)]),
        ("ij->ij", [(2, 3)]),
        ("ij->", [(2, 3)]),
        ("...->...", [(2, 3)]),
        ("i...->...", [(2, 3, 4)]),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]),
        ("i,i,i->", [(6,), (6,), (6,)]),
        ("ijk,il,jm,kn->lmn", [(2, 3, 4), (2, 5), (3, 6), (4, 7)]),
        ("a,b,c,d->dbca", [(2,), (3,), (4,), (5,)]),
        ("aA,Za", [(2, 3), (4, 2)]),
    ],
)
def test_equations_are_products(equation: str, shapes: list[tuple[int, ...]]) -> None:
    check(equation, *shapes)


def test_a_contraction_of_matrices_is_one_matmul() -> None:
    assert check("td,de->te", (12, 16), (16, 8))[0] in ("MatMul", "FusedLinear", "Gemm")


@pytest.mark.parametrize("seed", range(60))
def test_random_equations(seed: int) -> None:
    chosen = random.Random(seed)
    size = {letter: chosen.choice([1, 2, 3, 5]) for letter in "abcdef"}
    terms, shapes = [], []
    for _ in range(chosen.choice([1, 2, 2, 2, 3, 4])):
        term = "".join(chosen.sample("abcdef", chosen.randint(0, 4)))
        if term and chosen.random() < 0.2:
            term += term[0]
        terms.append(term)
        ones = {letter for letter in term if chosen.random() < 0.1}
        shapes.append(tuple(1 if letter in ones else size[letter] for letter in term))
    letters = sorted(set("".join(terms)))
    result = "".join(chosen.sample(letters, chosen.randint(0, len(letters))))
    check(f"{','.join(terms)}->{result}", *shapes)


@pytest.mark.parametrize(
    ("equation", "symbolic", "sizes"),
    [
        ("bqhd,bkhd->bhqk", [("b", "q", 2, 4), ("b", "k", 2, 4)], [(1, 3, 5), (2, 3, 5), (2, 7, 1), (1, 1, 9)]),
        ("btd,de->bte", [("b", "t", 4), (4, 6)], [(1, 3, 0), (2, 5, 0), (1, 1, 0), (4, 9, 0)]),
        ("b...,b...->...", [("b", "t", 4), ("b", "t", 4)], [(1, 3, 0), (2, 5, 0), (1, 1, 0), (4, 9, 0)]),
    ],
)  # fmt: skip
def test_sizes_that_vary(equation: str, symbolic: list[Shape], sizes: list[tuple[int, ...]]) -> None:
    session, plain = sessions(equation, symbolic)
    for numbers in (*sizes, *sizes):
        size = dict(zip("bqk" if "q" in equation else "bt", numbers))
        feeds = feeds_of([[n if isinstance(n, int) else size[n] for n in shape] for shape in symbolic])
        (ours,), (expected,) = session.run(None, feeds), plain.run(None, feeds)
        assert ours.shape == expected.shape
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [11, 6, 7])
def test_other_types_stay(kind: int) -> None:
    session, plain = sessions("ij,jk->ik", [(2, 3), (3, 4)], kind)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    feeds = {name: (x * 5).astype(dtype) for name, x in feeds_of([(2, 3), (3, 4)]).items()}
    np.testing.assert_array_equal(session.run(None, feeds)[0], plain.run(None, feeds)[0])
    assert "Einsum" in operators(session, feeds)


@pytest.mark.parametrize(("equation", "shapes"), [("ij,jk->ik", [(2, 0), (0, 4)]), ("ij->i", [(0, 3)])])
def test_empty_tensors_stay(equation: str, shapes: list[tuple[int, ...]]) -> None:
    feeds = feeds_of(shapes)
    session, plain = sessions(equation, shapes)
    (expected,) = plain.run(None, feeds)
    (ours,) = session.run(None, feeds)
    np.testing.assert_array_equal(ours, expected)
    assert "Einsum" in operators(session, feeds)


def test_a_wrong_equation_is_an_error_of_the_node() -> None:
    session, _ = sessions("ij,jk->ik", [("a", "b"), ("c", "d")])
    with pytest.raises(tinyonnx.NodeError, match="index 'j' has sizes 3 and 5"):
        session.run(None, feeds_of([(2, 3), (5, 4)]))
