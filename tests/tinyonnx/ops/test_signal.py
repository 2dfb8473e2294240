"""DFT, STFT, windows and the mel matrix against the formulas of the standard, onnxruntime and onnx's cases."""

from __future__ import annotations

from itertools import product

import ml_dtypes
import numpy as np
import pytest

from tests.tinyonnx.ops.running import (
    assert_same,
    check_against_onnxruntime,
    check_backend_cases,
    normal,
    outputs_of,
    run,
)
from tinyonnx.errors import OpError, ResourceError
from tinyonnx.limits import Limits

F32, F64 = np.float32, np.float64
WINDOWS = ("HannWindow", "HammingWindow", "BlackmanWindow")


@pytest.mark.parametrize("name", ["STFT", *WINDOWS, "MelWeightMatrix"])
def test_backend_cases(name):
    check_backend_cases(name)


# -- DFT --------------------------------------------------------------------------------


def transform(x, length: int, axis: int, *, inverse: int = 0):
    """Compute the sum in the operator's text for complex numbers along an axis, cut or zero-padded to `length`."""
    k = np.arange(length)
    wave = np.exp((2j if inverse else -2j) * np.pi * np.outer(k, k) / length) / (length if inverse else 1)
    used = np.moveaxis(x, axis, -1)[..., :length]
    return np.moveaxis(used @ wave[: used.shape[-1]], -1, axis)


def parts(y):
    return np.stack([y.real, y.imag], axis=-1)


@pytest.mark.parametrize(("axis", "length"), [*product([0, 1, 2, -2, -3], [None, 4, 9])])
@pytest.mark.parametrize(("opset", "inverse", "last"), [*product([17, 20], [0, 1], [1, 2])])
def test_dft_is_the_sum_of_its_text(axis, length, opset, inverse, last):
    x = normal(3, 5, 6, last, dtype=F64)
    wanted = None if length is None else np.array(length)
    z = x[..., 0] + (1j * x[..., 1] if last == 2 else 0)
    along = axis % 4
    expected = parts(transform(z, length or x.shape[axis], along, inverse=inverse))
    if opset == 17:
        y = run("DFT", x, wanted, opset=17, axis=axis, inverse=inverse)
    else:
        y = run("DFT", x, wanted, np.array(axis), opset=20, inverse=inverse)
    np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-12, strict=True)


@pytest.mark.parametrize("length", [None, 3, 4, 7, 8, 12, 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_onesided_transforms(length, axis):
    x = normal(7, 8, 1, dtype=F64)
    n = length or x.shape[axis]
    wanted = None if length is None else np.array([length], np.int32)
    full = transform(x[..., 0], n, axis)
    half = parts(full.take(range(n // 2 + 1), axis))
    spectrum = run("DFT", x, wanted, np.array(axis), onesided=1)
    np.testing.assert_allclose(spectrum, half, rtol=1e-10, atol=1e-12, strict=True)
    back = run("DFT", spectrum, np.array(n), np.array(axis), onesided=1, inverse=1)
    kept = x.take(range(min(n, x.shape[axis])), axis)
    filled = np.zeros_like(back)
    filled[tuple(slice(0, s) for s in kept.shape)] = kept
    np.testing.assert_allclose(back, filled, atol=1e-12, strict=True)


def test_onesided_inverse_defaults_to_an_even_length():
    spectrum = run("DFT", normal(1, 8, 1, dtype=F64), None, np.array(1), onesided=1)
    assert run("DFT", spectrum, None, np.array(1), onesided=1, inverse=1).shape == (1, 8, 1)
    assert run("DFT", spectrum, opset=17, onesided=1, inverse=1).shape == (1, 8, 1)


@pytest.mark.parametrize(
    ("length", "onesided", "inverse"), [(16, 0, 0), (10, 0, 0), (None, 0, 1), (24, 1, 0), (16, 1, 0)]
)
@pytest.mark.parametrize("opset", [17, 20])
def test_dft_like_onnxruntime(length, onesided, inverse, opset):
    x = normal(2, 16, 3, 1)
    inputs = [x] if length is None else [x, np.array(length)]
    axis = {"axis": 1}
    if opset == 20:
        inputs, axis = [x, None if length is None else np.array(length), np.array(1)], {}
    check_against_onnxruntime(
        "DFT", *inputs, opset=opset, rtol=1e-4, atol=1e-4, onesided=onesided, inverse=inverse, **axis
    )


@pytest.mark.parametrize("dtype", [F32, np.float16, ml_dtypes.bfloat16])
def test_dft_rounds_once(dtype):
    x = normal(1, 4096, 1).astype(dtype)
    wide = run("DFT", x.astype(F64))
    assert_same(run("DFT", x), wide.astype(dtype), rtol=0, atol=0)


def test_nothing_to_transform():
    assert run("DFT", np.zeros((0, 4, 1), F32)).shape == (0, 4, 2)
    assert run("STFT", np.zeros((0, 4, 1), F32), np.array(1), None, np.array(2)).shape == (0, 3, 2, 2)


# -- STFT -------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "frame", "onesided"), [*product([1, 3, 8], [1, 4, 7, 32], [0, 1])])
@pytest.mark.parametrize("windowed", [False, True])
def test_stft_is_the_dft_of_windowed_frames(step, frame, onesided, windowed):
    signal = normal(2, 32, 1, dtype=F64)
    window = np.hanning(frame + 2)[1:-1] if windowed else None
    y = run("STFT", signal, np.array(step), window, np.array(frame), onesided=onesided)
    starts = range(0, 32 - frame + 1, step)
    assert y.shape[1] == len(starts)
    for i, start in enumerate(starts):
        piece = signal[:, start : start + frame]
        piece = piece if window is None else piece * window[:, None]
        expected = run("DFT", piece, None, np.array(1), onesided=onesided)
        np.testing.assert_allclose(y[:, i], expected, rtol=1e-10, atol=1e-12)


def test_stft_of_a_complex_signal_and_default_frames():
    signal = normal(2, 8, 2, dtype=F64)
    whole = run("STFT", signal, np.array(3), onesided=0)
    np.testing.assert_allclose(whole[:, 0], run("DFT", signal, None, np.array(1)), rtol=1e-10, atol=1e-12)
    assert run("STFT", signal, np.array(1), np.ones(5), onesided=0).shape == (2, 4, 5, 2)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("shape", [(2, 64, 1), (2, 64)])
def test_stft_like_onnxruntime(onesided, shape):
    inputs = normal(*shape), np.array(8), np.hanning(16).astype(F32), np.array(16)
    check_against_onnxruntime("STFT", *inputs, opset=17, rtol=1e-4, atol=1e-4, onesided=onesided)


# -- windows, mel -----------------------------------------------------------------------


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize(("periodic", "size"), [*product([0, 1], [1, 2, 7, 64])])
@pytest.mark.parametrize("output_datatype", [1, 10, 11])
def test_windows_like_onnxruntime(name, periodic, size, output_datatype):
    attributes = {"periodic": periodic, "output_datatype": output_datatype}
    if size == 1 and not periodic:  # onnxruntime's formula gives 0 / 0
        assert run(name, np.array(1), **attributes).tolist() == [1]
    elif output_datatype == 10:
        wide = run(name, np.array(size), **attributes | {"output_datatype": 11})
        assert_same(run(name, np.array(size), **attributes), wide.astype(np.float16))
    else:
        check_against_onnxruntime(name, np.array(size), opset=17, rtol=1e-5, atol=1e-6, **attributes)


@pytest.mark.parametrize(("name", "window"), [("HannWindow", np.hanning), ("BlackmanWindow", np.blackman)])
def test_periodic_windows_are_symmetric_ones_without_the_last_point(name, window):
    for size in (1, 2, 9, 10):
        symmetric = run(name, np.array(size, np.int32), periodic=0, output_datatype=11)
        np.testing.assert_allclose(symmetric, window(size), atol=1e-15)
        periodic = run(name, np.array(size), output_datatype=11)
        np.testing.assert_allclose(periodic, window(size + 1)[:size], atol=1e-15)
    assert run(name, np.array(0)).shape == (0,)


def test_windows_of_integers_are_cut():
    assert run("HannWindow", np.array(5), periodic=0, output_datatype=7).tolist() == [0, 0, 1, 0, 0]


def mel_arguments(bands: int, length: int, rate: int, low: float, high: float):
    return np.array(bands), np.array(length), np.array(rate), np.array(low, F32), np.array(high, F32)


@pytest.mark.parametrize(
    "arguments",
    [(8, 16, 8192, 0, 4096), (40, 512, 16000, 20, 7600), (80, 400, 16000, 0, 8000), (128, 1024, 32000, 0, 15000)],
)
def test_mel_weight_matrix_like_onnxruntime(arguments):
    inputs = mel_arguments(*arguments)
    check_against_onnxruntime("MelWeightMatrix", *inputs, opset=17, rtol=1e-5, atol=1e-6)


def test_mel_triangles():
    weights = run("MelWeightMatrix", *mel_arguments(20, 1024, 16000, 100, 8000), output_datatype=11)
    assert weights.shape == (513, 20)
    assert (weights.max(axis=0) == 1).all()
    peaks = weights.argmax(axis=0)
    assert (np.diff(peaks) > 0).all()
    covered = weights[peaks[0] : peaks[-1]]
    np.testing.assert_allclose(covered.sum(axis=1), 1)


# -- refusals ---------------------------------------------------------------------------

REAL, COMPLEX = normal(2, 8, 1), normal(2, 8, 2)
MEL = mel_arguments(8, 16, 8192, 0, 4096)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "message"),
    [
        ("DFT", [REAL, None, np.array(2)], {}, "axis is 2, must be a signal axis"),
        ("DFT", [REAL, None, np.array(-1)], {}, "axis is -1, must be a signal axis"),
        ("DFT", [REAL, None, np.array(-4)], {}, "axis is -4, must be a signal axis"),
        ("DFT", [normal(2, 8, 3)], {}, r"last axis of 1 \(real\) or 2 \(complex\)"),
        ("DFT", [REAL[0, 0]], {}, "needs a signal axis"),
        ("DFT", [REAL, np.array(0)], {}, "length of the transform is 0"),
        ("DFT", [REAL[:, :0]], {}, "length of the transform is 0"),
        ("DFT", [COMPLEX], {"onesided": 1}, "needs real input"),
        ("DFT", [REAL], {"onesided": 1, "inverse": 1}, "needs complex input"),
        ("DFT", [COMPLEX[:, :1]], {"onesided": 1, "inverse": 1}, "length of the transform is 0"),
        ("STFT", [REAL, np.array(0)], {}, "one every 0"),
        ("STFT", [REAL, np.array(1), None, np.array(9)], {}, "frames of 9 samples"),
        ("STFT", [REAL, np.array(1), None, np.array(0)], {}, "frames of 0 samples"),
        ("STFT", [REAL, np.array(1), np.ones(3, F32), np.array(4)], {}, "window has 3 elements, frame_length is 4"),
        ("STFT", [REAL, np.array(1), np.ones((3, 1), F32)], {}, "should be a vector"),
        ("STFT", [COMPLEX, np.array(1)], {}, "needs a real signal"),
        ("STFT", [REAL[0, 0], np.array(1)], {}, "signal has shape"),
        ("HannWindow", [np.array(-1)], {}, "size is -1"),
        ("HannWindow", [np.array([1, 2])], {}, "size must be one integer"),
        ("HannWindow", [np.array(1)], {"output_datatype": 99}, "unknown data type 99"),
        ("MelWeightMatrix", [np.array(0), *MEL[1:]], {}, "num_mel_bins is 0"),
        ("MelWeightMatrix", [MEL[0], np.array(-2), *MEL[2:]], {}, "dft_length -2"),
        ("MelWeightMatrix", [*MEL[:2], np.array(0), *MEL[3:]], {}, "sample rate of 0"),
        ("MelWeightMatrix", [*MEL[:3], np.array(-1, F32), MEL[4]], {}, "edges of -1.0"),
        ("MelWeightMatrix", [*MEL[:4], np.array(5000, F32)], {}, "5000.0 Hz don't fit a sample rate of 8192"),
        ("MelWeightMatrix", [*MEL[:3], MEL[4], MEL[3]], {}, "edges of 4096.0 and 0.0"),
        ("MelWeightMatrix", [*MEL[:4], np.array([1, 2], F32)], {}, "upper_edge_hertz has shape"),
    ],
)
def test_refusals_say_what_is_wrong(name, inputs, attributes, message):
    with pytest.raises(OpError, match=message):
        outputs_of(name, *inputs, **attributes)


def test_memory_bombs_are_refused(monkeypatch):
    monkeypatch.setattr("tests.tinyonnx.ops.running.Limits", lambda: Limits(max_tensor_bytes=1 << 20))
    huge = np.array(10**9)
    for name, inputs in [
        ("DFT", (REAL, huge)),
        ("HannWindow", (huge,)),
        ("MelWeightMatrix", (huge, *MEL[1:])),
        ("STFT", (normal(1, 2000, 1), np.array(1), None, np.array(1000))),
    ]:
        with pytest.raises(ResourceError, match="max_tensor_bytes"):
            run(name, *inputs)
