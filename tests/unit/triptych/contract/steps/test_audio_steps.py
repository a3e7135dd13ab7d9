"""Sound: WAV files of real writers and of none, and signals at another rate; scipy is the reference."""

from __future__ import annotations

import io
import struct
import tracemalloc
import wave
from typing import Any

import numpy as np
import pytest
import scipy.io.wavfile
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from triptych.contract import Environment, Facts, Scope, parse_contract
from triptych.contract.steps.registry import parse_step
from triptych.contract.steps.wav import BrokenWav, read_wav
from triptych.contract.verification.trial import trial
from triptych.errors import ContractViolation, InvalidInput

RNG = np.random.default_rng(5)
GUID = bytes.fromhex("000000001000800000aa00389b71")
DECODE = {"op": "decode_wav", "input": "sound", "sample_rate": 8000}
TONE = np.round(np.sin(np.arange(80) / 5) * 30_000).astype("<i2")


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def form(kind: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16, block: int | None = None) -> bytes:
    frame = channels * bits // 8 if block is None else block
    return struct.pack("<HHIIHH", kind, channels, rate, rate * frame, frame, bits)


def wav(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def plain(samples: Any = TONE, **fields: Any) -> bytes:
    return wav(chunk(b"fmt ", form(**fields)), chunk(b"data", samples.tobytes()))


def decoded(*files: bytes, **fields: Any) -> Any:
    array = np.empty(len(files), np.object_)
    array[:] = files
    env = Environment({"sound": array}, len(files), {})
    parse_step({**DECODE, **fields}).compile(Scope())(env)
    return env


def refusal(data: bytes, **fields: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        decoded(data, **fields)
    return str(caught.value)


# --- decode_wav: what is read


@pytest.mark.parametrize("dtype", ["u1", "<i2", "<i4", "<f4", "<f8"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_files_of_scipy_have_its_samples(dtype: str, channels: int) -> None:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        samples = RNG.uniform(-1, 1, (77, channels)).astype(kind)
    else:
        samples = RNG.integers(np.iinfo(kind).min, np.iinfo(kind).max, (77, channels), kind, endpoint=True)
    file = io.BytesIO()
    scipy.io.wavfile.write(file, 8000, samples)
    zero, most = {"u1": (128, 128), "<i2": (0, 1 << 15), "<i4": (0, 1 << 31)}.get(dtype, (0, 1))
    want = ((samples.astype(np.float64) - zero) / most).astype(np.float32)
    np.testing.assert_array_equal(read_wav(file.getvalue()).samples(), want)
    got = decoded(file.getvalue())["sound"]
    np.testing.assert_allclose(got, [want.mean(axis=1)], atol=1e-6)
    assert got.dtype == np.float32


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_files_of_pythons_wave_are_read(width: int) -> None:
    values = RNG.integers(-(1 << (8 * width - 1)), 1 << (8 * width - 1), 51)
    raw = b"".join(int(v).to_bytes(width, "little", signed=True) for v in values)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(width)
        out.setframerate(8000)
        out.writeframes(bytes(byte ^ 128 for byte in raw) if width == 1 else raw)  # 8 bit is unsigned
    want = (values / (1 << (8 * width - 1))).astype(np.float32)
    np.testing.assert_array_equal(decoded(file.getvalue())["sound"], [want])


def extensible(kind: int, bits: int, guid: bytes = GUID) -> bytes:
    return form(0xFFFE, 1, 8000, bits) + struct.pack("<HHIH", 22, bits, 4, kind) + guid


ODD = {
    "extensible PCM, as FFmpeg writes 24 bit": wav(
        chunk(b"fmt ", extensible(1, 24)),
        chunk(b"data", b"".join(int(v).to_bytes(2, "little", signed=True).rjust(3, b"\0") for v in TONE)),
    ),
    "extensible float": wav(
        chunk(b"fmt ", extensible(3, 32)), chunk(b"data", (TONE / np.float32(1 << 15)).astype("<f4").tobytes())
    ),
    "chunks of odd sizes before and behind": wav(
        chunk(b"LIST", b"INFOISFT\x03\0\0\0abc"), chunk(b"junk", b"x" * 7), chunk(b"fmt ", form() + b"\0\0"),
        chunk(b"fact", b"1234"), chunk(b"data", TONE.tobytes()), chunk(b"id3 ", b"y" * 9),
    ),
    "of unknown size, as FFmpeg writes to a pipe": wav(
        chunk(b"fmt ", form()), chunk(b"data", TONE.tobytes(), 0xFFFF_FFFF)
    ),
    "of unknown size, as SoX writes to a pipe": wav(
        chunk(b"fmt ", form()), chunk(b"data", TONE.tobytes(), 0x7FFF_F000)
    ),
    "a wrong size of the whole": b"RIFF\0\0\0\0" + plain()[8:],
    "bytes behind the end": plain() + b"TAG" * 50,
}  # fmt: skip


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_odd_files_of_real_writers_are_read(data: bytes) -> None:
    np.testing.assert_array_equal(decoded(data)["sound"], [(TONE / (1 << 15)).astype(np.float32)])


# --- decode_wav: what is refused

BROKEN = {
    "nothing": (b"", "a file of 0 bytes that is no WAV"),
    "an MP3": (b"\xff\xfb" + bytes(50), "a file of the format MP3"),
    "big-endian": (b"RIFX" + plain()[4:], "a file of the format RIFX (big-endian)"),
    "a FLAC": (b"fLaC" + bytes(40), "a file of the format FLAC"),
    "A-law": (wav(chunk(b"fmt ", form(6, bits=8)), chunk(b"data", b"ab")), "of A-law with 8 bit; served are PCM"),
    "12 bit": (plain(bits=12), "of PCM with 12 bit"),
    "float of 16 bit": (plain(kind=3), "of float with 16 bit"),
    "no channel": (plain(channels=0), "of 0 channels at 8000 Hz"),
    "no rate": (plain(rate=0), "of 1 channels at 0 Hz"),
    "a wrong frame": (plain(block=3), "whose frames have 3 bytes, want 2"),
    "a short format": (wav(chunk(b"fmt ", form()[:14])), "whose format has 14 bytes, want 16"),
    "an unknown extension": (wav(chunk(b"fmt ", extensible(1, 16, b"x" * 14))), "an extensible format that is not"),
    "samples before the format": (wav(chunk(b"data", b"ab"), chunk(b"fmt ", form())), "come before their format"),
    "no samples": (wav(chunk(b"fmt ", form())), "cut off after 36 bytes, before its samples"),
    "half a frame": (wav(chunk(b"fmt ", form()), chunk(b"data", b"abc")), "3 bytes of samples in frames of 2"),
    "an empty signal": (plain(TONE[:0]), "want at least one sample, got row 0: none"),
    "NaN": (plain(np.array([np.nan], "<f4"), kind=3, bits=32), "want finite samples, got row 0: NaN or infinity"),
}


@pytest.mark.parametrize(("data", "text"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_whole_wav_file_is_refused_by_name(data: bytes, text: str) -> None:
    assert text in refusal(data)


def test_every_file_that_is_cut_off_is_refused() -> None:
    data = plain(channels=2)
    assert decoded(data)["sound"].shape == (1, 40)
    for size in range(len(data)):
        with pytest.raises(BrokenWav, match="cut off|no WAV"):
            read_wav(data[:size])


@given(st.data())
def test_any_damage_ends_in_samples_or_a_sentence(data: st.DataObject) -> None:
    file = bytearray(data.draw(st.sampled_from([*ODD.values(), plain(), plain(channels=2)])))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, min(len(file) - 1, 90)))] = data.draw(st.integers(0, 255))
    try:
        found = decoded(bytes(file), other_rates="resample")["sound"]
    except InvalidInput:
        return
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_limits_are_checked_before_samples_are_decoded() -> None:
    assert "want at most 0.005 s, got row 0: 0.0 s" in refusal(plain(), max_seconds=0.005)
    assert "want 8000 Hz, got row 0: 44100 Hz" in refusal(plain(rate=44100))
    assert "want one channel, got row 0: 2" in refusal(plain(channels=2), channels="refuse")
    assert "want at most 79 samples, got row 0: 80" in refusal(plain(), length=79)
    # A filter for 767,999 to 8,000 Hz would have 15 million numbers.
    assert "want 8000 Hz, got row 0: 767999 Hz" in refusal(plain(rate=767_999), other_rates="resample")


def test_samples_of_one_bit_depth_and_many_channels_take_no_multiple_of_their_file() -> None:
    """A file of 64 MiB with samples of 8 bit took 1.5 GiB."""
    data = plain(np.full(4 << 20, 129, np.uint8), channels=32, bits=8)
    tracemalloc.start()
    try:
        assert (decoded(data)["sound"] == np.float32(1 / 128)).all()
        assert tracemalloc.get_traced_memory()[1] < 2 * len(data)
    finally:
        tracemalloc.stop()


def test_samples_of_a_request_are_counted_as_they_would_be_filled_up() -> None:
    long, short = plain(np.zeros(1000, "<i2")), plain(np.zeros(1, "<i2"))
    assert decoded(long, short, short, max_request_samples=3000)["sound"].shape == (3, 1000)
    with pytest.raises(InvalidInput, match="want at most 2999 samples in one request, .* got 3000"):
        decoded(long, short, short, max_request_samples=2999)
    fast = plain(np.zeros(8000, "<i2"), rate=64_000)  # 1,000 samples at 8,000 Hz
    with pytest.raises(InvalidInput, match="got 8000"):
        decoded(fast, other_rates="resample", max_request_samples=7999)
    slow = plain(np.zeros(1000, "<i2"), rate=1000)
    with pytest.raises(InvalidInput, match="got 8000"):
        decoded(slow, other_rates="resample", max_request_samples=7999)


def test_chunks_before_the_samples_are_limited() -> None:
    ahead = chunk(b"fmt ", form())
    data = chunk(b"data", TONE.tobytes())
    assert decoded(wav(ahead, *[chunk(b"junk", b"")] * 998, data))["sound"].shape == (1, 80)
    assert "of more than 1000 chunks before its samples" in refusal(wav(ahead, *[chunk(b"junk", b"")] * 999, data))


# --- decode_wav: its results


def test_shorter_rows_are_filled_up_at_their_end() -> None:
    env = decoded(plain(TONE[:3]), plain(TONE[:5]), lengths="n")
    assert env["sound"].shape == (2, 5)
    assert env["sound"][0, 3:].tolist() == [0, 0]
    assert (env["n"].tolist(), env["n"].dtype) == ([3, 5], np.dtype(np.int32))
    assert decoded(plain(TONE[:3]), length=7)["sound"].shape == (1, 7)
    cut = decoded(plain(), length=7, too_long="cut", lengths="n")
    np.testing.assert_array_equal(cut["sound"], [(TONE[:7] / (1 << 15)).astype(np.float32)])
    assert cut["n"].tolist() == [7]


def test_another_rate_is_resampled() -> None:
    got = decoded(plain(rate=16000), other_rates="resample")["sound"]
    np.testing.assert_allclose(got, [scipy.signal.resample_poly(TONE / (1 << 15), 1, 2)], atol=1e-6)


def test_results_and_their_facts() -> None:
    step = parse_step({**DECODE, "lengths": "n", "length": 100})
    assert step.infer({}) == {"sound": Facts(width=100), "n": Facts()}
    assert [text for _, text in parse_step({**DECODE, "lengths": "sound"}).check(Scope(), {})]
    assert step.unpacked_bytes({"sound": np.array([b"abcd"], np.object_)}) == 64


# --- resample


def resample(x: Any, source: int, target: int) -> Any:
    env = Environment({"x": x}, len(x), {})
    parse_step({"op": "resample", "input": "x", "source_rate": source, "target_rate": target}).compile(Scope())(env)
    return env["x"]


@given(
    st.sampled_from([(44100, 16000), (48000, 16000), (8000, 16000), (16000, 44100), (11025, 8000), (7, 5), (1, 9)]),
    st.integers(1, 400),
    st.integers(0, 1 << 32),
)
def test_signals_are_those_of_scipys_resample_poly(rates: tuple[int, int], size: int, seed: int) -> None:
    x = np.random.default_rng(seed).uniform(-1, 1, (2, size)).astype(np.float32)
    got = resample(x, *rates)
    want = scipy.signal.resample_poly(x.astype(np.float64), rates[1], rates[0], axis=1)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_long_signals_are_those_of_scipy_over_all_blocks() -> None:
    x = RNG.uniform(-1, 1, 60_000).astype(np.float32)
    want = scipy.signal.resample_poly(x.astype(np.float64), 160, 441)
    np.testing.assert_allclose(resample(x[np.newaxis], 44100, 16000), [want], atol=1e-6)
    assert len(want) > 2 * 8192


def test_a_tone_stays_the_same_tone() -> None:
    """Away from the ends, where no samples are assumed beyond."""
    at = np.arange(4410) / 44100
    got = resample(np.sin(2 * np.pi * 1000 * at)[np.newaxis], 44100, 16000)[0]
    want = np.sin(2 * np.pi * 1000 * np.arange(len(got)) / 16000)
    np.testing.assert_allclose(got[100:-100], want[100:-100], atol=2e-3)


def test_other_dimensions_and_whole_numbers_are_taken() -> None:
    x = RNG.integers(-100, 100, (2, 3, 20), np.int16)
    assert resample(x, 2, 3).shape == (2, 3, 30)
    np.testing.assert_array_equal(resample(x, 5, 5), x.astype(np.float32))
    assert parse_step({"op": "resample", "input": "x", "source_rate": 2, "target_rate": 3}).infer(
        {"x": Facts(width=21)}
    ) == {"x": Facts(width=32)}


@pytest.mark.parametrize("value", [np.zeros(3, np.float32), np.array([[b"x"]], np.object_)])
def test_what_is_no_signal_is_refused(value: Any) -> None:
    with pytest.raises(ContractViolation, match=r"resample: want numbers \[n,...,t\]"):
        resample(value, 2, 3)


def test_a_ratio_with_a_huge_filter_is_refused_in_the_contract() -> None:
    with pytest.raises(ValidationError, match="want rates whose ratio has terms up to 2000, got 44101 to 44100"):
        parse_step({"op": "resample", "input": "x", "source_rate": 44100, "target_rate": 44101})


CONTRACT = """\
apiVersion: triptych.dev/v1
kind: Contract
family: sound
max_rows: 8
inputs: [{name: sound, datatype: BYTES, shape: [-1]}]
preprocess: [{op: decode_wav, input: sound, output: signal, sample_rate: 16000, length: LENGTH, lengths: n}]
model:
  inputs: [{name: signal, datatype: FP32, shape: [-1, -1]}, {name: n, datatype: INT32, shape: [-1]}]
  outputs: [{name: y, datatype: FP32, shape: [-1, 4]}]
outputs: [{name: y, datatype: FP32, shape: [-1, 4]}]
"""


@pytest.mark.parametrize("length", ["16000", "7", "null"])
def test_a_contract_on_sound_passes_its_trial(length: str) -> None:
    text = CONTRACT.replace("length: LENGTH, ", "" if length == "null" else f"length: {length}, ")
    assert trial(parse_contract(text.encode())) == []
