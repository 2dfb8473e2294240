"""GridSample, AffineGrid and DeformConv: onnxruntime, onnx's cases, and cases that neither covers."""

from __future__ import annotations

from itertools import product

import ml_dtypes
import numpy as np
import pytest

from tests.tinyonnx.ops.running import check_against_onnxruntime, check_backend_cases, names_of, normal, outputs_of, run
from tinyonnx.errors import OpError, ResourceError
from tinyonnx.limits import Limits
from tinyonnx.ops import conv, sampling

F32 = np.float32
PADDINGS = ("zeros", "border", "reflection")


@pytest.mark.parametrize("name", names_of(sampling))
def test_backend_cases(name):
    check_backend_cases(name)


def _grid(rank: int, *, low: float = -1.8, high: float = 1.8, seed: int = 1):
    return np.random.default_rng(seed).uniform(low, high, (2, *(5, 3, 4)[:rank], rank)).astype(F32)


@pytest.mark.parametrize(
    ("opset", "rank", "mode"),
    [
        *product([16], [2], ["bilinear", "nearest", "bicubic"]),
        *product([20], [2, 3], ["linear", "nearest"]),
        (20, 2, "cubic"),
    ],
)
@pytest.mark.parametrize(("padding_mode", "align_corners"), [*product(PADDINGS, [0, 1])])
def test_grid_sample_like_onnxruntime(opset, rank, mode, padding_mode, align_corners):
    attributes = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    x = normal(2, 3, *(4, 5, 6)[:rank])
    check_against_onnxruntime("GridSample", x, _grid(rank), opset=opset, rtol=1e-5, atol=1e-5, **attributes)


def _product_of_lines(x, grid, **attributes):
    """Interpolate on a grid that is a product of lines, one axis after the other: interpolation is separable."""
    for axis in range(2, x.ndim):
        line = grid[(slice(None), *(0 if a != axis - 1 else slice(None) for a in range(1, x.ndim - 1)))]
        line = line[:, :, -1 - (axis - 2), None]
        moved = np.moveaxis(x, axis, -1)
        flat = moved.reshape(len(x), -1, moved.shape[-1])
        x = np.moveaxis(run("GridSample", flat, line, **attributes).reshape(*moved.shape[:-1], -1), -1, axis)
    return x


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("rank", [2, 3, 4])
def test_grid_sample_of_any_rank_is_separable(mode, padding_mode, rank):
    x = normal(2, 3, *range(4, 4 + rank), dtype=np.float64)
    lines = [np.sort(np.random.default_rng(i).uniform(-1.5, 1.5, 2 + i)) for i in range(rank)]
    mesh = np.stack(np.meshgrid(*lines, indexing="ij")[::-1], axis=-1)
    grid = np.stack([mesh, mesh])
    attributes = {"mode": mode, "padding_mode": padding_mode}
    expected = _product_of_lines(x, grid, **attributes)
    np.testing.assert_allclose(run("GridSample", x, grid, **attributes), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("x", [-1.7, -0.6, 0.3, 0.99, 1.9])
def test_grid_sample_in_one_dimension_by_hand(x):
    line = np.array([[[1.0, 2, 4, 8]]])
    at = (x + 1) / 2 * 3
    assert run("GridSample", line, np.array([[[x]]]), align_corners=1, padding_mode="border")[0, 0, 0] == pytest.approx(
        np.interp(at, range(4), line[0, 0])
    )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64, np.int8, np.uint8, np.int64, bool])
def test_grid_sample_dtypes(dtype):
    x = (normal(2, 3, 4, 5) * 40).astype(dtype)
    y = run("GridSample", x, _grid(2), mode="linear")
    wide = run("GridSample", x.astype(np.float64), _grid(2), mode="linear")
    if np.dtype(dtype).kind in "iu":
        np.testing.assert_array_equal(y, np.trunc(wide).astype(dtype), strict=True)
    else:
        np.testing.assert_allclose(
            y.astype(np.float64), wide.astype(dtype).astype(np.float64), rtol=1e-2 if y.itemsize == 2 else 1e-6
        )


def test_integers_stay_in_range():
    x = np.array([[[0, 255, 255, 0]]], np.uint8)
    assert run("GridSample", x, np.array([[[0.0]]], F32), mode="cubic").tolist() == [[[255]]]
    top = np.full((1, 1, 2), np.iinfo(np.int64).max)
    assert run("GridSample", top, np.array([[[0.0]]], F32))[0, 0, 0] > 2**62


def test_grid_sample_of_strings_takes_the_nearest():
    x = np.array([[[["a", "b"], ["c", "d"]]]], object)
    grid = np.array([[[[-0.4, -0.6], [0.5, 0.5], [3, 0]]]], F32)
    assert run("GridSample", x, grid, mode="nearest").tolist() == [[[["a", "d", ""]]]]


def test_complex_numbers_are_interpolated():
    x = normal(1, 1, 5, dtype=np.complex64) + 1j * normal(1, 1, 5, seed=3)
    grid = _grid(1)[:1]
    y = run("GridSample", x.astype(np.complex64), grid)
    np.testing.assert_allclose(y.imag, run("GridSample", x.imag.astype(F32), grid), rtol=1e-6)


@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_positions_that_are_no_places(mode, padding_mode):
    grid = np.array([[[np.nan], [np.inf], [-1e30], [0.0]]], F32)
    y = run("GridSample", np.ones((1, 1, 3), F32), grid, mode=mode, padding_mode=padding_mode)[0, 0]
    assert y[3] == 1
    if padding_mode == "zeros":
        assert y[1] == y[2] == 0


def test_what_lies_outside_is_zero_also_beside_infinity():
    x = np.full((1, 1, 1, 2), np.inf, F32)
    assert run("GridSample", x, np.full((1, 1, 1, 2), 5, F32)).item() == 0


@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize(("theta", "size"), [((2, 2, 3), [2, 3, 4, 5]), ((2, 3, 4), [2, 3, 2, 4, 5])])
def test_affine_grid_like_onnxruntime(theta, size, align_corners):
    x = normal(*theta)
    check_against_onnxruntime(
        "AffineGrid", x, np.array(size), opset=20, align_corners=align_corners, rtol=1e-5, atol=1e-5
    )


def test_affine_grid_of_one_element_lies_in_the_middle():
    identity = np.array([[[1, 0, 0], [0, 1, 0]]], F32)
    for align_corners in (0, 1):
        grid = run("AffineGrid", identity, np.array([1, 1, 1, 3]), align_corners=align_corners)
        np.testing.assert_allclose(grid[0, 0, :, 1], 0)
        assert grid[0, 0, 1].tolist() == [0, 0]


def test_affine_grid_keeps_the_limit(monkeypatch):
    monkeypatch.setattr("tests.tinyonnx.ops.running.Limits", lambda: Limits(max_tensor_bytes=1000))
    with pytest.raises(ResourceError, match="max_tensor_bytes"):
        run("AffineGrid", np.zeros((1, 2, 3), F32), np.array([1, 1, 10**6, 10**6]))


def _deform(rank: int, seed: int):
    rng = np.random.default_rng(seed)
    group, offset_group = (int(rng.integers(1, 3)) for _ in range(2))
    kernel = rng.integers(1, 4, rank).tolist()
    x = rng.normal(size=(2, 4, *rng.integers(6, 9, rank))).astype(F32)
    w = rng.normal(size=(2 * group, 4 // group, *kernel)).astype(F32)
    attributes = {
        "strides": rng.integers(1, 3, rank).tolist(),
        "pads": rng.integers(0, 3, 2 * rank).tolist(),
        "dilations": rng.integers(1, 3, rank).tolist(),
        "group": group,
        "offset_group": offset_group,
        "kernel_shape": kernel,
    }
    plain = {k: v for k, v in attributes.items() if k != "offset_group"}
    out = conv.conv(None, x, w, **plain).shape[2:]
    taps = offset_group * int(np.prod(kernel))
    offset = rng.normal(size=(2, taps * rank, *out), scale=2).astype(F32)
    mask = rng.uniform(size=(2, taps, *out)).astype(F32)
    b = rng.normal(size=2 * group).astype(F32)
    return x, w, offset, b, mask, attributes, plain


@pytest.mark.parametrize("seed", range(12))
def test_deform_conv_like_onnxruntime(seed):
    x, w, offset, b, mask, attributes, _ = _deform(2, seed)
    inputs = [x, w, offset, b if seed % 2 else None, mask if seed % 3 else None]
    while inputs[-1] is None:
        inputs.pop()
    check_against_onnxruntime("DeformConv", *inputs, opset=19, rtol=1e-4, atol=1e-4, **attributes)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_deform_conv_by_whole_offsets_is_a_convolution_of_a_moved_image(rank):
    x, w, offset, b, _, attributes, plain = _deform(rank, rank)
    still = np.zeros_like(offset)
    np.testing.assert_allclose(
        run("DeformConv", x, w, still, b, **attributes), conv.conv(None, x, w, b, **plain), rtol=1e-4, atol=1e-4
    )
    moved = np.zeros_like(x)
    moved[:, :, :-1] = x[:, :, 1:]
    by_one = still.reshape(2, -1, rank, *still.shape[2:])
    by_one[:, :, 0] = 1
    attributes["pads"] = plain["pads"] = [0] * 2 * rank
    trimmed = conv.conv(None, moved, w, b, **plain)
    crop = tuple(slice(0, n) for n in trimmed.shape[2:])
    shift = by_one.reshape(still.shape)[(slice(None), slice(None), *crop)]
    np.testing.assert_allclose(run("DeformConv", x, w, shift, b, **attributes), trimmed, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_deform_conv_rounds_once(dtype):
    x, w, offset, b, mask, attributes, _ = _deform(2, 5)
    inputs = [v.astype(dtype) for v in (x, w, offset, b, mask)]
    y = run("DeformConv", *inputs, **attributes)
    wide = run("DeformConv", *(v.astype(np.float64) for v in inputs), **attributes)
    eps = ml_dtypes.finfo(dtype).eps
    np.testing.assert_allclose(y.astype(np.float64), wide, rtol=2 * eps, atol=max(1e-4, eps / 10))


X, G = np.ones((1, 2, 4, 5), F32), np.zeros((1, 3, 3, 2), F32)
W, MOVES = np.ones((2, 2, 3, 3), F32), np.zeros((1, 18, 2, 3), F32)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "opset", "message"),
    [
        ("GridSample", [X, G], {"mode": "bilinear"}, 20, "mode is 'bilinear', should be one of linear"),
        ("GridSample", [X, G], {"mode": "linear"}, 16, "mode is 'linear', should be one of bilinear"),
        ("GridSample", [X, G], {"padding_mode": "wrap"}, 20, "padding_mode is 'wrap'"),
        ("GridSample", [X, G[..., :1]], {}, 20, "grid"),
        ("GridSample", [X, G[:, 0]], {}, 20, "grid"),
        ("GridSample", [X[0], G], {}, 16, "needs four axes before opset 20"),
        ("GridSample", [X[:, :, :0], G], {}, 20, "nothing to sample"),
        ("GridSample", [X.astype(str).astype(object), G], {}, 20, "can't interpolate strings"),
        ("AffineGrid", [np.ones((1, 2, 3), F32), np.array([1, 1, 4])], {}, 20, "two or three positive spatial"),
        ("AffineGrid", [np.ones((1, 2, 3), F32), np.array([1, 1, 4, 0])], {}, 20, "two or three positive spatial"),
        ("AffineGrid", [np.ones((1, 3, 3), F32), np.array([1, 1, 4, 4])], {}, 20, "theta has shape"),
        ("DeformConv", [X, W, MOVES[:, :17]], {}, 19, r"offset has shape \[1, 17, 2, 3\], should be \[1, 18, 2, 3\]"),
        ("DeformConv", [X, W, MOVES, np.ones(3, F32)], {}, 19, r"B has shape \[3\]"),
        ("DeformConv", [X, W, MOVES, None, MOVES], {}, 19, r"mask has shape .* should be \[1, 9, 2, 3\]"),
        ("DeformConv", [X, W, MOVES], {"group": 2}, 19, "in 2 groups"),
        ("DeformConv", [X, W, MOVES], {"group": 0}, 19, "in 0 groups"),
        ("DeformConv", [X, W, MOVES], {"offset_group": 3}, 19, "into 3 offset groups"),
        ("DeformConv", [X, W, MOVES], {"kernel_shape": [2, 3]}, 19, "kernel_shape"),
        ("DeformConv", [X, W[0], MOVES], {}, 19, "same number"),
        ("DeformConv", [X, W, MOVES], {"strides": [0, 1]}, 19, "strides"),
    ],
)
def test_refusals_say_what_is_wrong(name, inputs, attributes, opset, message):
    with pytest.raises(OpError, match=message):
        outputs_of(name, *inputs, opset=opset, **attributes)
