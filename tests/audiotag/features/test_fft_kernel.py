from __future__ import annotations

import numpy as np

from audiotag.features import fft_kernel, mel
from audiotag.features.fft_kernel import Curve, log_mel
from audiotag.features.settings import MelBank, MelConfig, Window, mel_filterbank, window
from tests.tinyonnx.kernels.fast import POISON
from tinyonnx import kernel

SMALL = MelConfig(n_fft=32, window=Window(length=30), hop=12, mel=MelBank(bins=4))
CURVE = Curve(np.float32(1e-5), np.float32(0), np.float32(4.5), np.float32(0.2), 0)


@kernel
def run_log_mel(y, out, at, step, frames, curve, tables, scratch, part, parts):
    log_mel(y, out, at, step, frames, curve, tables, scratch)


def run(y, config=mel.DEFAULT):
    """Return the features of every frame, computed with poison around the output and NaN in the scratch memory."""
    tables = fft_kernel.tables(window(config), mel_filterbank(config), config.hop)
    frames = (len(y) - config.n_fft) // config.hop + 1
    out = np.full((config.n_mels + 2, frames + 7), POISON, np.float32)
    scratch = tables.scratch()
    for array in scratch:
        array[:] = -1 if array.dtype == np.int32 else np.nan  # the bits of one that is NaN, too
    step = frames + 7
    run_log_mel(y, out.reshape(-1), step + 3, step, frames, CURVE, tables, scratch)
    features = out[1:-1, 3:-4].copy()
    out[1:-1, 3:-4] = POISON
    assert (out == POISON).all()
    return features


def samples(n):
    return np.random.default_rng(n).standard_normal(n).astype(np.float32)


def test_a_frame_does_not_depend_on_its_lane_or_its_group():
    y = samples(1024 + 320 * 39)
    whole = run(y)
    for first in (1, 7, 16, 30, 39):
        np.testing.assert_array_equal(run(y[320 * first :]), whole[:, first:])
    for last in (0, 14, 15, 16, 33):
        np.testing.assert_array_equal(run(y[: 1024 + 320 * last]), whole[:, : last + 1])


def test_python_gives_the_same_up_to_rounding():
    tables = fft_kernel.tables(window(SMALL), mel_filterbank(SMALL), SMALL.hop)
    y = samples(32 + 12 * 17)
    out = np.full((4, 18), np.nan, np.float32)
    log_mel.function(y, out.reshape(-1), 0, 18, 18, CURVE, tables, tables.scratch())
    np.testing.assert_allclose(out, run(y, SMALL), rtol=0, atol=1e-5)


def logarithms(values):
    """Return the logarithm of silence, for which only the offset remains."""
    tables = fft_kernel.tables(window(SMALL), mel_filterbank(SMALL), SMALL.hop)
    y, out, scratch = np.zeros(32, np.float32), np.empty((len(values), 4), np.float32), tables.scratch()
    for row, value in zip(out, np.float32(values), strict=True):
        run_log_mel(y, row, 0, 1, 1, CURVE._replace(offset=value), tables, scratch)
    np.testing.assert_array_equal(out, np.repeat(out[:, :1], 4, axis=1))
    return out[:, 0]


def test_logarithm_over_its_whole_range():
    random = np.random.default_rng(0).integers(0x00800000, 0x7F800000, 3000, np.int32).view(np.float32)
    near_one = np.linspace(0.6, 1.6, 3000, dtype=np.float32)
    ends = np.array([np.finfo(np.float32).tiny, np.finfo(np.float32).max, 1, 1e-5], np.float32)
    values = np.concatenate([random, near_one, ends])
    exact = np.log(values.astype(np.float64))
    # (ln v + 4.5) / 5: two ulp of the logarithm, half a one of the sum, and half and a rounded fifth of the product
    expected = (exact + 4.5) / 5
    bound = (2 * np.spacing(np.float32(np.abs(exact))) + 0.5 * np.spacing(np.float32(np.abs(exact + 4.5)))) / 5
    assert (np.abs(logarithms(values) - expected) <= bound + np.spacing(np.float32(np.abs(expected)))).all()


def test_logarithm_passes_on_what_is_no_number():
    np.testing.assert_array_equal(logarithms([np.nan, np.inf]), np.float32([np.nan, np.inf]))
