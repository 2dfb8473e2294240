from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx.parser
import pytest

from tinyonnx import InferenceSession, InputError
from tinyonnx.tools.feeds import is_known, make_feeds, parse_dim, parse_input, shapes_only


def session(inputs: str) -> InferenceSession:
    names = re.findall(r"\] (\w+)", inputs)
    nodes = "\n".join(f"y{i} = Identity({name})" for i, name in enumerate(names))
    outputs = ", ".join(f"y{i}" for i in range(len(names)))
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> test ({inputs}) => ({outputs}) {{ {nodes} }}'
    )
    return InferenceSession(model.SerializeToString())


ONE = session("float[n, 3, t, u] x")


def test_noise_is_seeded_and_of_the_right_type() -> None:
    s = session("float[n,3,t,u] x, int64[2] i, bool[2] b, string[4] s, bfloat16[2] h, complex64[3] c")
    feeds = make_feeds(s, dims={"u": 5})
    assert {name: (str(a.dtype), a.shape) for name, a in feeds.items()} == {
        "x": ("float32", (1, 3, 256, 5)), "i": ("int64", (2,)), "b": ("bool", (2,)), "s": ("object", (4,)),
        "h": ("bfloat16", (2,)), "c": ("complex64", (3,)),
    }  # fmt: skip
    np.testing.assert_array_equal(feeds["x"], make_feeds(s, dims={"u": 5})["x"])
    assert (feeds["x"] != make_feeds(s, dims={"u": 5}, seed=1)["x"]).any()
    s.run(None, feeds)


def test_given_shapes_and_files_size_the_other_inputs(tmp_path: Path) -> None:
    s = session("float[n,t] x, float[t,n] y, float[n] z")
    np.save(tmp_path / "x.npy", np.ones((2, 7), np.float32))
    feeds = make_feeds(s, {"x": f"{tmp_path}/x.npy", "z": (3,)})
    np.testing.assert_array_equal(feeds["x"], np.ones((2, 7)))
    assert (feeds["y"].shape, feeds["z"].shape) == ((7, 3), (3,))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("x", "NAME=FILE"),
        ("=x.npy", "NAME=FILE"),
        ("y=shape:1", "inputs are 'x'"),
        ("x=shape:1,-2", "expected dimensions"),
        ("x=shape:a", "expected dimensions"),
    ],
)
def test_what_is_refused(given: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_feeds(ONE, dict([parse_input(given)]))


def test_an_unknown_dimension_is_refused() -> None:
    with pytest.raises(InputError, match="'n', 't', 'u'"):
        make_feeds(ONE, dims={"v": 3})


def test_files_that_are_no_array(tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("hello")
    np.savez(tmp_path / "two.npz", a=np.ones(2))
    for name, message in (("text.npy", "not a .npy"), ("two.npz", "archive")):
        with pytest.raises(InputError, match=message):
            make_feeds(ONE, {"x": str(tmp_path / name)})
    with pytest.raises(FileNotFoundError):
        make_feeds(ONE, {"x": "missing.npy"})


def test_without_a_default_every_dimension_is_asked_for() -> None:
    with pytest.raises(InputError, match=r"--dim t=N"):
        make_feeds(ONE, default=None)
    assert not is_known(ONE)
    assert is_known(session("float[1,2] x"))


def test_dims() -> None:
    assert parse_dim("a=20") == ("a", 20)
    for text in ("a", "a=", "=1", "a=-1"):
        with pytest.raises(InputError, match="NAME=N"):
            parse_dim(text)


def test_shapes_take_no_memory() -> None:
    feeds = shapes_only({"x": np.ones((1000, 1000)), "s": np.array(["a", "b"], object), "l": [1, 2]})
    assert feeds["x"].strides == (0, 0)
    assert feeds["s"].tolist() == ["", ""]
    assert feeds["l"] == [1, 2]
