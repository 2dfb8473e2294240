"""Log-mel features in one compiled pass: window, FFT, power, mel filter bank and logarithm.

`LANES` frames are processed together, one in each lane of the vectors, so that every step is
arithmetic on whole rows: a row has one number per frame, a complex row the real parts followed by
the imaginary parts. Intermediate results of a group stay in scratch memory that fits the cache.

The real FFT of n samples is a complex FFT of n/2 (even samples real, odd samples imaginary) and a
step that separates the two. It runs in passes of constant geometry: each reads rows M/r apart and
writes r adjacent ones, so that the frequencies end in digit-reversed order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinyonnx import jit

if TYPE_CHECKING:
    from tinyonnx.ir import Array

LANES = 16
"""Number of frames in a group; a constant, so that the compiler can vectorise."""

# Indices are unsigned, because numba's handling of negative ones prevents vectorisation.
_0, _1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12, _13 = (np.uint64(i) for i in range(14))
_LANES, _ROW = np.uint64(LANES), np.uint64(2 * LANES)

_ZERO, _ONE = np.float32(0), np.float32(1)


class TransformSizes(NamedTuple):
    """Sizes of the FFT, the hop and the filter bank; numbers of passes and of twiddle factors."""

    n_fft: int
    hop: int
    n_mels: int
    passes: int
    twiddles: int


class Curve(NamedTuple):
    """The curve from the energy of a band to a feature: (ln(max(energy + offset, floor)) + shift) · scale.

    The energy is that of power spectra, or with `magnitude` 1 of their square roots.
    """

    offset: Any
    floor: Any
    shift: Any
    scale: Any
    magnitude: int


class Scratch(NamedTuple):
    """Scratch memory; separate arrays, so that the compiler can assume that they do not overlap.

    `bits` is the memory of `mel` as integers.
    """

    slab: Array
    spectrum: Array
    other: Array
    mel: Array
    bits: Array
    exponents: Array


class Tables(NamedTuple):
    """Precomputed tables of window, FFT and mel filter bank.

    `numbers` has the window, e^(-2πik/n_fft) for
    k = 0, ..., n_fft/2, the twiddles, and the filter weights. `indices` has

    * the position of each pair of samples in a slab, n_fft/2 numbers;
    * the row of each frequency after the complex FFT, n_fft/2 numbers and again the first;
    * for each pass of the FFT: radix r, number of sets of twiddles, number of butterflies per set,
      and start of the sets;
    * for each filter: first bin, and number of bins divided by eight.
    """

    sizes: TransformSizes
    numbers: Array
    indices: Array

    def scratch(self) -> Scratch:
        """Allocate scratch memory."""
        n_fft, hop, n_mels, *_ = self.sizes
        pace = 2 - hop % 2
        slab = -(-min(n_fft, hop) // pace) * 2 * (LANES + (n_fft - 1) // hop)
        spectrum, mel = (n_fft + 8) * LANES, n_mels * LANES
        slabs, spectra, others, mels, exponents = map(_aligned, (slab, spectrum, spectrum, mel, mel))
        return Scratch(slabs, spectra, others, mels, mels.view(np.int32), exponents)


def tables(window: Array, filterbank: Array, hop: int) -> Tables:
    """Compute the tables for a window (n_fft,), n_fft a multiple of 8, and a filter bank (n_mels, n_fft/2+1)."""
    n_fft = len(window)
    half = n_fft // 2
    passes, twiddles = [], [np.empty(0)]
    butterflies, radices = 1, _radices(half)
    for radix in radices:
        groups = half // (radix * butterflies)
        passes += [radix, groups, butterflies, sum(map(len, twiddles))]
        group, row = np.arange(groups)[:, None], np.arange(radix)
        factors = np.exp(-2j * np.pi * group * row / (groups * radix))
        if radix in (4, 8):
            factors = factors[:, 1:]
        else:
            factors = factors[:, :, None] * np.exp(-2j * np.pi * np.outer(row, row) / radix)
        twiddles.append(_pairs(factors))
        butterflies *= radix
    places = np.arange(half).reshape(radices).transpose().ravel()
    bands, weights = [], []
    for row in filterbank:
        bins = np.flatnonzero(row)
        first, stop = (bins[0], bins[-1] + 1) if len(bins) else (0, 0)
        chunks = -(-(stop - first) // 8)
        bands += [first, chunks]
        weights.append(np.pad(row[first:stop], (0, 8 * chunks - (stop - first))))
    # halved, because separating the two FFTs adds two terms
    halved = window * np.float32(0.5)
    turns = _pairs(np.exp(-2j * np.pi * np.arange(half + 1) / n_fft))
    factors = np.concatenate(twiddles)
    entries = _entries(half, hop, LANES + (n_fft - 1) // hop)
    return Tables(
        TransformSizes(n_fft, hop, len(filterbank), len(radices), len(factors)),
        np.concatenate([halved, turns, factors, *weights]).astype(np.float32),
        np.concatenate([entries, places, places[:1], passes, bands]).astype(np.uint64),
    )


def _entries(half: int, hop: int, columns: int) -> Array:
    column, sample = np.divmod(2 * np.arange(half), hop)
    entries: Array = 2 * (sample // (2 - hop % 2) * columns + column)
    return entries


def _aligned(n: int) -> Array:
    """Allocate n floats aligned to a cache line; rows across two lines would take a fifth longer."""
    memory = np.empty(n + LANES, np.float32)
    skipped = -memory.ctypes.data % 64 // 4
    return memory[skipped : skipped + n]


def _radices(n: int) -> list[int]:
    """Factorise n into eights, fours where they avoid a two, and then primes."""
    radices = []
    while n > 1:
        radix = next(r for r in (8, 4, 2, *range(3, n + 1, 2)) if n % r == 0 and not (r == 8 and n % 32 == 16))
        radices.append(radix)
        n //= radix
    return radices


def _pairs(z: Array) -> Array:
    return np.stack([z.real, z.imag], axis=-1).ravel()


@jit
def log_mel(
    y: Array, out: Array, at: int, step: int, frames: int, curve: Curve, tables: Tables, scratch: Scratch
) -> None:  # fmt: skip
    """Compute features of pre-emphasised samples: out[at + m * step + t] = curve(energy of band m in frame t).

    Frame t < `frames` is y[t * hop : t * hop + n_fft].
    """
    sizes, numbers, indices = tables.sizes, tables.numbers, tables.indices
    n_fft, hop = np.uint64(sizes.n_fft), np.uint64(sizes.hop)
    n_mels, n_passes = np.uint64(sizes.n_mels), np.uint64(sizes.passes)
    x, z, mel = scratch.spectrum, scratch.other, scratch.mel
    half = n_fft >> _1
    window, turns, twiddles = numbers[:n_fft], numbers[n_fft:], numbers[n_fft * _2 + _2 :]
    weights = twiddles[np.uint64(sizes.twiddles) :]
    entries, places, passes = indices[:half], indices[half:], indices[n_fft + _1 :]
    bands = passes[n_passes * _4 :]
    columns = _LANES + (n_fft - _1) // hop
    pace = _2 - (hop & _1)
    rows = (min(n_fft, hop) + pace - _1) // pace
    for group in range((np.uint64(frames) + _LANES - _1) // _LANES):
        first = group * _LANES
        transpose(y, first * hop, scratch.slab, hop, rows, pace, columns)
        enter(scratch.slab, entries, window, x)
        for i in range(n_passes):
            at_pass = passes[_4 * i :]
            radix, n_twiddles, shared, start = at_pass[_0], at_pass[_1], at_pass[_2], at_pass[_3]
            if radix == _8:
                pass_of_eight(x, z, twiddles[start:], n_twiddles, shared)
            elif radix == _4:
                pass_of_four(x, z, twiddles[start:], n_twiddles, shared)
            else:
                pass_of_any(x, z, twiddles[start:], radix, n_twiddles, shared)
            x, z = z, x
        power(x, z, places, turns, half)
        if curve.magnitude:
            square_root(z)
        gather(z, bands, weights, mel, n_mels, curve.offset)
        if curve.floor > _ZERO:
            raise_to(mel, curve.floor)
        logarithm(mel, scratch.bits, scratch.exponents, curve.shift, curve.scale)
        store(mel, out, np.uint64(at) + first, np.uint64(step), np.uint64(frames) - first, n_mels)


@jit
def transpose(y: Array, start: Any, slab: Array, hop: Any, rows: Any, pace: Any, columns: Any) -> None:
    """Transpose pairs of samples: slab[r, j] = y[start + j * hop + r * pace] and its successor; zeros after the end.

    A sample belongs to several frames but is transposed only once.
    """
    n = np.uint64(len(y))
    for j in range(columns):
        begin = min(start + j * hop, n)
        present = min((max(n - begin, _1) + pace - _2) // pace, rows)
        for r in range(present):
            i, o = begin + r * pace, (r * columns + j) * _2
            first, second = y[i], y[i + _1]
            slab[o], slab[o + _1] = first, second
        for r in range(present, rows):
            o = (r * columns + j) * _2
            slab[o] = slab[o + _1] = _ZERO


@jit
def enter(slab: Array, entries: Array, window: Array, x: Array) -> None:
    """Compute x[n] = windowed (sample 2n + i · sample 2n+1), four per iteration: shorter loops don't vectorise."""
    for n in range(_0, np.uint64(len(entries)), _4):
        a, b, c, d = entries[n], entries[n + _1], entries[n + _2], entries[n + _3]
        w = _2 * n
        w0, w1, w2, w3 = window[w], window[w + _1], window[w + _2], window[w + _3]
        w4, w5, w6, w7 = window[w + _4], window[w + _5], window[w + _6], window[w + _7]
        for lane in range(_LANES):
            o, v = n * _ROW + lane, _2 * lane
            x[o] = slab[a + v] * w0
            x[o + _LANES] = slab[a + v + _1] * w1
            x[o + _2 * _LANES] = slab[b + v] * w2
            x[o + _3 * _LANES] = slab[b + v + _1] * w3
            x[o + _4 * _LANES] = slab[c + v] * w4
            x[o + _5 * _LANES] = slab[c + v + _1] * w5
            x[o + _6 * _LANES] = slab[d + v] * w6
            x[o + _7 * _LANES] = slab[d + v + _1] * w7


@jit
def dft_4(ar: Any, ai: Any, br: Any, bi: Any, cr: Any, ci: Any, dr: Any, di: Any) -> Any:
    """Compute the DFT of four complex numbers."""
    pr, pi, qr, qi = ar + cr, ai + ci, ar - cr, ai - ci
    sr, si, tr, ti = br + dr, bi + di, br - dr, bi - di
    return pr + sr, pi + si, qr + ti, qi - tr, pr - sr, pi - si, qr - ti, qi + tr


_HALF_ROOT = np.float32(0.5**0.5)


@jit
def pass_of_eight(x: Array, y: Array, w: Array, n_twiddles: Any, shared: Any) -> None:
    """Compute a radix-8 pass: row 8j+k of y = w[j // shared, k] · DFT over i of the rows j + i · M/8 of x."""
    d = n_twiddles * shared * _ROW
    for p in range(n_twiddles):
        t = p * np.uint64(14)
        w1r, w1i, w2r, w2i, w3r, w3i, w4r = w[t], w[t + _1], w[t + _2], w[t + _3], w[t + _4], w[t + _5], w[t + _6]
        w4i, w5r, w5i, w6r, w6i, w7r, w7i = (
            w[t + _7],
            w[t + _8],
            w[t + _9],
            w[t + _10],
            w[t + _11],
            w[t + _12],
            w[t + _13],
        )
        for j in range(p * shared, (p + _1) * shared):
            for lane in range(_LANES):
                i, o = j * _ROW + lane, j * _8 * _ROW + lane
                v = i + _LANES
                a0r, a0i, a1r, a1i, a2r, a2i, a3r, a3i = dft_4(
                    x[i], x[v], x[i + _2 * d], x[v + _2 * d], x[i + _4 * d], x[v + _4 * d], x[i + _6 * d], x[v + _6 * d]
                )
                b0r, b0i, b1r, b1i, b2r, b2i, b3r, b3i = dft_4(
                    x[i + d], x[v + d], x[i + _3 * d], x[v + _3 * d], x[i + _5 * d], x[v + _5 * d], x[i + _7 * d],
                    x[v + _7 * d],
                )  # fmt: skip
                b1r, b1i = (b1r + b1i) * _HALF_ROOT, (b1i - b1r) * _HALF_ROOT
                b2r, b2i = b2i, -b2r
                b3r, b3i = (b3i - b3r) * _HALF_ROOT, (b3r + b3i) * -_HALF_ROOT
                y[o] = a0r + b0r
                y[o + _LANES] = a0i + b0i
                o += _ROW
                y[o], y[o + _LANES] = times(a1r + b1r, a1i + b1i, w1r, w1i)
                o += _ROW
                y[o], y[o + _LANES] = times(a2r + b2r, a2i + b2i, w2r, w2i)
                o += _ROW
                y[o], y[o + _LANES] = times(a3r + b3r, a3i + b3i, w3r, w3i)
                o += _ROW
                y[o], y[o + _LANES] = times(a0r - b0r, a0i - b0i, w4r, w4i)
                o += _ROW
                y[o], y[o + _LANES] = times(a1r - b1r, a1i - b1i, w5r, w5i)
                o += _ROW
                y[o], y[o + _LANES] = times(a2r - b2r, a2i - b2i, w6r, w6i)
                o += _ROW
                y[o], y[o + _LANES] = times(a3r - b3r, a3i - b3i, w7r, w7i)


@jit
def times(ar: Any, ai: Any, br: Any, bi: Any) -> Any:
    """Return the product of two complex numbers."""
    return ar * br - ai * bi, ar * bi + ai * br


@jit
def pass_of_four(x: Array, y: Array, w: Array, n_twiddles: Any, shared: Any) -> None:
    """Compute a radix-4 pass of the FFT; see `pass_of_eight`."""
    d = n_twiddles * shared * _ROW
    for p in range(n_twiddles):
        t = p * _6
        w1r, w1i, w2r, w2i, w3r, w3i = w[t], w[t + _1], w[t + _2], w[t + _3], w[t + _4], w[t + _5]
        for j in range(p * shared, (p + _1) * shared):
            for lane in range(_LANES):
                i, o = j * _ROW + lane, j * _4 * _ROW + lane
                v = i + _LANES
                a0r, a0i, a1r, a1i, a2r, a2i, a3r, a3i = dft_4(
                    x[i], x[v], x[i + d], x[v + d], x[i + _2 * d], x[v + _2 * d], x[i + _3 * d], x[v + _3 * d]
                )
                y[o] = a0r
                y[o + _LANES] = a0i
                o += _ROW
                y[o], y[o + _LANES] = times(a1r, a1i, w1r, w1i)
                o += _ROW
                y[o], y[o + _LANES] = times(a2r, a2i, w2r, w2i)
                o += _ROW
                y[o], y[o + _LANES] = times(a3r, a3i, w3r, w3i)


@jit
def pass_of_any(x: Array, y: Array, w: Array, radix: Any, n_twiddles: Any, shared: Any) -> None:
    """Compute a pass with any radix r: row rj+k of y = Σ over i of w[j // shared, k, i] · row j + i · M/r of x."""
    distance = n_twiddles * shared
    for j in range(distance):
        for k in range(radix):
            o = (j * radix + k) * _ROW
            for lane in range(_ROW):
                y[o + lane] = _ZERO
            for i in range(radix):
                t = ((j // shared * radix + k) * radix + i) * _2
                wr, wi = w[t], w[t + _1]
                a = (j + i * distance) * _ROW
                for lane in range(_LANES):
                    re, im = x[a + lane], x[a + lane + _LANES]
                    y[o + lane] += re * wr - im * wi
                    y[o + lane + _LANES] += re * wi + im * wr


@jit
def power(x: Array, out: Array, places: Array, turns: Array, half: Any) -> None:
    """Compute row k of out = |X[k]|², 0 ≤ k ≤ half.

    X is the real FFT, x the complex FFT of half the length that it is computed from. With a = x[k] and
    b = conj x[half - k], X[k] = (a + b) - i · turns[k] · (a - b).
    """
    for k in range(half + _1):
        a, b = places[k] * _ROW, places[half - k] * _ROW
        wr, wi = turns[_2 * k], turns[_2 * k + _1]
        o = k * _LANES
        for lane in range(_LANES):
            ar, ai, br, bi = x[a + lane], x[a + lane + _LANES], x[b + lane], x[b + lane + _LANES]
            qr, qi = ai + bi, br - ar
            re, im = ar + br + (qr * wr - qi * wi), ai - bi + (qr * wi + qi * wr)
            out[o + lane] = re * re + im * im
    for i in range((half + _1) * _LANES, (half + _8) * _LANES):
        out[i] = _ZERO


@jit
def gather(power: Array, bands: Array, weights: Array, mel: Array, n_mels: Any, offset: Any) -> None:
    """Compute mel[m] = offset + the power under bank m, eight bins at a time; bins beyond the bank have weight 0."""
    for i in range(n_mels * _LANES):
        mel[i] = offset
    t = _0
    for m in range(n_mels):
        o, i = m * _LANES, bands[_2 * m] * _LANES
        for _ in range(bands[_2 * m + _1]):
            w0, w1, w2, w3 = weights[t], weights[t + _1], weights[t + _2], weights[t + _3]
            w4, w5, w6, w7 = weights[t + _4], weights[t + _5], weights[t + _6], weights[t + _7]
            for lane in range(_LANES):
                p = i + lane
                total = mel[o + lane] + power[p] * w0 + power[p + _LANES] * w1
                total = total + power[p + _2 * _LANES] * w2 + power[p + _3 * _LANES] * w3
                total = total + power[p + _4 * _LANES] * w4 + power[p + _5 * _LANES] * w5
                mel[o + lane] = total + power[p + _6 * _LANES] * w6 + power[p + _7 * _LANES] * w7
            i, t = i + _8 * _LANES, t + _8


@jit
def square_root(x: Array) -> None:
    """Compute x[i] = √x[i]."""
    for i in range(np.uint64(len(x))):
        x[i] = np.sqrt(x[i])


@jit
def raise_to(x: Array, floor: Any) -> None:
    """Compute x[i] = max(x[i], floor); NaN stays NaN."""
    for i in range(np.uint64(len(x))):
        x[i] = floor if x[i] < floor else x[i]


# ln(1 + f) = f - f²/2 + f³ · series, fitted for √½ - 1 ≤ f ≤ √2 - 1, error below 6e-9 of the result
_L3, _L4, _L5, _L6 = np.float32(0.33333331), np.float32(-0.25000823), np.float32(0.20001228), np.float32(-0.16623348)
_L7, _L8, _L9, _L10 = np.float32(0.14201732), np.float32(-0.13160255), np.float32(0.12761821), np.float32(-0.07634614)
# both parts of ln 2 are positive, so that infinity is preserved; the first times an exponent is exact
_LN_2_HIGH, _LN_2_LOW = np.float32(0.693145751953125), np.float32(1.42860677e-6)
_HALF, _INFINITY, _NAN, _INFINITY_BITS = np.float32(0.5), np.float32(np.inf), np.float32(np.nan), np.int32(0x7F800000)
_ROOT_HALF_BITS, _MANTISSA = np.int32(0x3F3504F3), np.int32(23)


@jit
def logarithm(v: Array, bits: Array, exponents: Array, shift: Any, scale: Any) -> None:
    """Compute v[i] = (ln v[i] + shift) · scale, ln within 2 ulp, for normal numbers > 0, infinity and NaN.

    `bits` are those of v.
    """
    n = np.uint64(len(v))
    for i in range(n):
        value = bits[i]
        exponent = np.int32(value - _ROOT_HALF_BITS) >> _MANTISSA
        bits[i] = value - np.int32(exponent << _MANTISSA)
        no_number = _INFINITY if value == _INFINITY_BITS else _NAN
        exponents[i] = np.float32(exponent) if 0 < value < _INFINITY_BITS else no_number
    for i in range(n):
        f, exponent = v[i] - _ONE, exponents[i]
        low = _L7 + f * (_L8 + f * (_L9 + f * _L10))
        series = _L3 + f * (_L4 + f * (_L5 + f * (_L6 + f * low)))
        square = f * f
        rest = exponent * _LN_2_LOW - _HALF * square + square * f * series
        v[i] = (exponent * _LN_2_HIGH + (f + rest) + shift) * scale


@jit
def copy_8(x: Array, i: Any, out: Array, o: Any) -> None:
    """Copy eight numbers; all are read before the first is written, so that they form one vector."""
    a, b, c, d = x[i], x[i + _1], x[i + _2], x[i + _3]
    e, f, g, h = x[i + _4], x[i + _5], x[i + _6], x[i + _7]
    out[o], out[o + _1], out[o + _2], out[o + _3] = a, b, c, d
    out[o + _4], out[o + _5], out[o + _6], out[o + _7] = e, f, g, h


@jit
def store(mel: Array, out: Array, at: Any, step: Any, left: Any, n_mels: Any) -> None:
    """Write the features of a group, of at most `left` frames."""
    for m in range(n_mels):
        i, o = m * _LANES, m * step + at
        if left >= _LANES:
            copy_8(mel, i, out, o)
            copy_8(mel, i + _8, out, o + _8)
        else:
            for lane in range(left):
                out[o + lane] = mel[i + lane]
