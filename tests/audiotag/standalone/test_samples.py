"""Decoding of samples and averaging of channels, compared with numpy."""

from __future__ import annotations

import numpy as np
import pytest

from audiotag.sound.channels import MAX_PEAK
from audiotag.standalone import samples

RNG = np.random.default_rng(0)


def views(data):
    memory = np.frombuffer(data + bytes(-len(data) % 8), np.uint8).copy()
    return [memory.view(kind) for kind in (np.uint8, np.int16, np.int32, np.float32, np.float64)]


def decoded(encoding, data, n):
    out = np.full(n + 1, 7, np.float32)
    samples.convert(encoding, n, *views(data), out)
    assert out[n] == 7
    return out[:n]


@pytest.mark.parametrize(
    ("encoding", "kind", "scale"),
    [
        (samples.SIGNED_16, "<i2", 2.0**15),
        (samples.SIGNED_32, "<i4", 2.0**31),
        (samples.FLOAT_32, "<f4", 1.0),
        (samples.FLOAT_64, "<f8", 1.0),
    ],
)
def test_values(encoding, kind, scale):
    dtype = np.dtype(kind)
    ends = [np.iinfo(dtype).min, -1, 0, 1, np.iinfo(dtype).max] if dtype.kind == "i" else [-1.0, 0.0, 1e-30, 1.0]
    values = np.array([*ends, *(RNG.standard_normal(20) * (scale / 8 if scale > 1 else 1))]).astype(dtype)
    expected = values.astype(np.float32) if scale == 1 else values.astype(np.float32) * np.float32(1 / scale)
    np.testing.assert_array_equal(decoded(encoding, values.tobytes(), len(values)), expected)


def test_bytes_are_unsigned():
    data = bytes(range(256))
    expected = (np.arange(256, dtype=np.float32) - 128) / 128
    np.testing.assert_array_equal(decoded(samples.UNSIGNED_8, data, 256), expected)


def test_three_bytes():
    values = [-(2**23), -1, 0, 1, 2**23 - 1, 0x123456]
    data = b"".join(value.to_bytes(3, "little", signed=True) for value in values)
    expected = np.float32(values) / np.float32(2**23)
    np.testing.assert_array_equal(decoded(samples.SIGNED_24, data, len(values)), expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 7, 8, 9, 16, 31, 128])
def test_averages_are_those_of_numpy(channels):
    values = RNG.standard_normal((50, channels)).astype(np.float32)
    out = np.full(51, 7, np.float32)
    samples.average(values.ravel(), channels, 50, out)
    np.testing.assert_array_equal(out[:50], values.mean(axis=1))
    assert out[50] == 7


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, np.float32(2 * MAX_PEAK), np.float32(-2 * MAX_PEAK)])
def test_samples_that_are_no_sound(bad):
    x = RNG.standard_normal(20).astype(np.float32)
    assert samples.peak_of(x, 20) == np.abs(x).max()
    x[13] = bad
    assert samples.peak_of(x, 20) == np.inf
    assert samples.peak_of(x, 13) == np.abs(x[:13]).max()
