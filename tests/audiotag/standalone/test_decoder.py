from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from audiotag import AudioError
from audiotag.sound import audio
from audiotag.standalone.samples import FLOAT_32
from tests.audiotag.standalone.decoding import Decoder
from tests.system.fuzz.fuzz_wav import Pipe

SUBTYPES = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"]


@pytest.fixture(scope="module")
def decode():
    return Decoder()


def encoded(samples, rate, subtype, format="WAV"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def fmt(code=1, channels=1, rate=32000, bits=16, align=None, more=b""):
    align = channels * ((bits + 7) // 8) if align is None else align
    return struct.pack("<HHIIHH", code, channels, rate, rate * align % 2**32, align, bits) + more


def extensible(code, bits=16, valid=None, channels=1):
    guid = struct.pack("<IHH", code, 0, 0x10) + bytes.fromhex("800000aa00389b71")
    more = struct.pack("<HHI", 22, bits if valid is None else valid, 0) + guid
    return fmt(0xFFFE, channels, bits=bits, more=more)


def chunk(name, data, size=None):
    pad = b"\0" if len(data) % 2 and size is None else b""
    return name + struct.pack("<I", len(data) if size is None else size) + data + pad


def riff(*chunks, size=None, name=b"RIFF"):
    body = b"WAVE" + b"".join(chunks)
    return name + struct.pack("<I", len(body) if size is None else size) + body


DATA = bytes(range(1, 97))
SIXTEEN = np.frombuffer(DATA, "<i2") / np.float32(32768)


@pytest.mark.parametrize("format", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 7, 8, 9, 100])
def test_every_encoding_gives_the_bits_of_the_package(decode, format, subtype, channels):
    samples = np.random.default_rng(channels).standard_normal((2000, channels)) * 0.2
    content = encoded(samples, 32000, subtype, format)
    expected = audio.read(content, notes=[])
    assert len(expected) == 2000
    for piece in (1 << 20, 777):
        problem, found = decode(content, piece)
        assert not problem
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("rate", [8000, 44100, 48000, 44056])
def test_pieces_of_any_size_give_the_same_bits(decode, rate):
    content = encoded(np.random.default_rng(0).standard_normal((9000, 2)) * 0.1, rate, "PCM_24")
    _, expected = decode(content)
    for piece in (1, 5, 1000, 4096):
        np.testing.assert_array_equal(decode(content, piece)[1], expected)


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize(("encoding", "number", "dtype"), [("f32le", FLOAT_32, "<f4"), ("s16le", 2, "<i2")])
def test_samples_without_a_header(decode, channels, encoding, number, dtype):
    samples = (np.random.default_rng(0).standard_normal((30_000, channels)) * 1000).astype(dtype)
    content, form = samples.tobytes(), audio.RawFormat(encoding, 32000, channels)
    problem, found = decode(content, 5000, (number, channels, 32000))
    assert not problem
    np.testing.assert_array_equal(found, audio.read(io.BytesIO(content), raw=form, notes=[]))
    wrong = f"{len(content) + 1} bytes are not a whole number of {samples.itemsize * channels}-byte frames"
    assert wrong in decode(content + b"1", raw=(number, channels, 32000))[0]
    assert decode(b"", raw=(number, channels, 32000))[0] == "is empty"


UNKNOWN = [0, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFF0000]


@pytest.mark.parametrize("size", UNKNOWN)
@pytest.mark.parametrize("file_size", [0, 8, 0xFFFFFFFF, 36])
def test_a_stream_that_does_not_know_its_length_is_read_to_its_end(decode, size, file_size):
    content = riff(chunk(b"fmt ", fmt()), chunk(b"data", DATA, size), size=file_size)
    for piece in (1, 1 << 20):
        problem, found = decode(content, piece)
        assert not problem
        np.testing.assert_array_equal(found, SIXTEEN)


VARIANTS = {
    "chunks before": (riff(chunk(b"LIST", b"INFO"), chunk(b"JUNK", b"abc"), chunk(b"fmt ", fmt()),
                           chunk(b"fact", b"abcd"), chunk(b"PEAK", bytes(16)), chunk(b"data", DATA)), SIXTEEN),
    "chunks after": (riff(chunk(b"fmt ", fmt()), chunk(b"data", DATA), chunk(b"LIST", b"INFO")), SIXTEEN),
    "longer than the file": (riff(chunk(b"fmt ", fmt()), chunk(b"data", DATA, 1000)), SIXTEEN),
    "half a frame": (riff(chunk(b"fmt ", fmt()), chunk(b"data", DATA[:-1])), SIXTEEN[:-1]),
    "half a frame at the end": (riff(chunk(b"fmt ", fmt()), chunk(b"data", DATA[:-1], 96)), SIXTEEN[:-1]),
    "long format": (riff(chunk(b"fmt ", fmt() + bytes(84)), chunk(b"data", DATA)), SIXTEEN),
    "odd format": (riff(chunk(b"fmt ", fmt() + b"1"), chunk(b"data", DATA)), SIXTEEN),
    "extensible": (riff(chunk(b"fmt ", extensible(1)), chunk(b"data", DATA)), SIXTEEN),
    "12 bits": (riff(chunk(b"fmt ", fmt(bits=12)), chunk(b"data", DATA)), SIXTEEN),
    "RF64": (riff(chunk(b"ds64", struct.pack("<QQQI", 9, 96, 48, 0)), chunk(b"fmt ", fmt()),
                  chunk(b"data", DATA + b"1234", 0xFFFFFFFF), name=b"RF64"), SIXTEEN),
    "odd unsigned": (riff(chunk(b"fmt ", fmt(bits=8)), chunk(b"data", DATA[:95]), chunk(b"LIST", b"INFO")),
                     (np.frombuffer(DATA[:95], np.uint8) - np.float32(128)) / 128),
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_headers_that_are_fine(decode, name):
    content, expected = VARIANTS[name]
    for piece in (1, 1 << 20):
        problem, found = decode(content, piece)
        assert not problem
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(audio.read(content, notes=[]), expected)


def bad(*chunks, **options):
    return riff(*chunks, chunk(b"data", DATA), **options)


COMPRESSED = "its samples are compressed"
SPIKE = np.array([0.1, 0.5, 1e30], "<f4")
BAD = {
    "nothing": (b"", "is empty"),
    "a byte": (b"R", "is not WAV"),
    "text": (b"This is no sound.\n" * 100, "is not WAV"),
    "AVI": (b"RIFF\0\0\0\0AVI " + bytes(100), "is not WAV"),
    "half a header": (bad(chunk(b"fmt ", fmt()))[:20], "ends before its samples begin"),
    "half a format": (bad(chunk(b"fmt ", fmt()))[:30], "ends before its samples begin"),
    "half a size": (bad(chunk(b"ds64", bytes(28)), name=b"RF64")[:30], "ends before its samples begin"),
    "no frames": (riff(chunk(b"fmt ", fmt()), chunk(b"data", b"")), "has no samples"),
    "no frames but a list": (riff(chunk(b"fmt ", fmt()), chunk(b"data", b""), chunk(b"LIST", b"I")), "has no samples"),
    "no samples": (riff(chunk(b"fmt ", fmt())), "ends before its samples begin"),
    "no format": (bad(), "does not describe its samples"),
    "format too late": (bad() + chunk(b"fmt ", fmt()), "does not describe its samples"),
    "short format": (bad(chunk(b"fmt ", fmt()[:14])), "does not describe its samples"),
    "huge chunk": (bad(chunk(b"JUNK", b"", 0xFFFFFFF0), chunk(b"fmt ", fmt())), "ends before its samples begin"),
    "no channels": (bad(chunk(b"fmt ", fmt(channels=0))), "gives no channels"),
    "many channels": (bad(chunk(b"fmt ", fmt(channels=1025))), "channels, at most 1024 are read"),
    "0 Hz": (bad(chunk(b"fmt ", fmt(rate=0))), "gives no valid sample rate"),
    "999 Hz": (bad(chunk(b"fmt ", fmt(rate=999))), "Hz is not in 1000..1000000 Hz"),
    "1000001 Hz": (bad(chunk(b"fmt ", fmt(rate=1_000_001))), "Hz is not in 1000..1000000 Hz"),
    "4294967295 Hz": (bad(chunk(b"fmt ", fmt(rate=2**32 - 1))), "gives no valid sample rate"),
    "40 bits": (bad(chunk(b"fmt ", fmt(bits=40))), "its samples have "),
    "float16": (bad(chunk(b"fmt ", fmt(3, bits=16))), "its samples have "),
    "ADPCM": (bad(chunk(b"fmt ", fmt(17, bits=4))), COMPRESSED),
    "A-law": (bad(chunk(b"fmt ", fmt(6, bits=8))), COMPRESSED),
    "extensible MP3": (bad(chunk(b"fmt ", extensible(0x55))), COMPRESSED),
    "NaN": (encoded(SPIKE * np.float32(np.nan), 44100, "FLOAT"), "has NaN, infinite or absurdly large samples"),
    "infinity": (encoded(SPIKE * np.float32(np.inf), 44100, "FLOAT"), "has NaN, infinite or absurdly large samples"),
    "loud": (encoded(SPIKE, 44100, "FLOAT"), "has NaN, infinite or absurdly large samples"),
    "double": (encoded(SPIKE.astype("f8") * 1e100, 44100, "DOUBLE"), "has NaN, infinite or absurdly large samples"),
}


@pytest.mark.parametrize("name", BAD)
def test_headers_and_samples_that_are_refused(decode, name):
    content, problem = BAD[name]
    for piece in (1, 1 << 20):
        assert problem in decode(content, piece)[0]
    if problem != COMPRESSED:
        for source in (content, Pipe(content)):
            with pytest.raises(AudioError):
                audio.read(source, notes=[])


def both(decode, content, piece):
    """Return the samples that the package reads, None for an error, and the kernel's samples and messages."""
    try:
        expected = audio.read(content, notes=[])
    except AudioError:
        expected = None
    return expected, *decode(content, piece)


FIELDS = (0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 24, 32, 64, 1000, 1024, 0x7FFF, 0xFFFE, 0xFFFF, 44100, 2**31, 2**32 - 1)
WHOLE = riff(
    chunk(b"JUNK", b"123"), chunk(b"fmt ", extensible(1, channels=2)), chunk(b"fact", b"1234"), chunk(b"data", DATA * 3)
)


@st.composite
def mutated(draw):
    """Return a file with bytes changed, inserted or removed."""
    content = bytearray(WHOLE)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, 90))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            content[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == 1:
            content[at : at + 2] = struct.pack("<H", draw(st.sampled_from(FIELDS)) & 0xFFFF)
        elif kind == 2:
            content[at : at + 4] = struct.pack("<I", draw(st.sampled_from(FIELDS)))
        elif kind == 3:
            del content[at : at + draw(st.integers(1, 8))]
        else:
            content[at:at] = draw(st.binary(min_size=1, max_size=8))
    return bytes(content[: draw(st.integers(0, 400))])


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(mutated(), st.sampled_from([1, 3, 1 << 20]))
@example(WHOLE, 1)
def test_mutated_headers_give_what_the_package_reads_or_an_error(decode, content, piece):
    expected, problem, found = both(decode, content, piece)
    if not problem and expected is not None:
        assert len(found) == len(expected)
        if decode.rate == 32000:
            np.testing.assert_array_equal(found, expected)
