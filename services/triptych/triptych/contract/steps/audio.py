"""Steps on sound: WAV files to signals, and signals to another rate."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Final, Literal, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field, model_validator

from triptych.contract.specs import Name
from triptych.contract.steps.base import Environment, Facts, MapStep, Run, Scope, Step
from triptych.contract.steps.wav import MAX_RATE, BrokenWav, Wav, read_wav
from triptych.datatypes import Array, describe_array
from triptych.errors import ContractViolation, InvalidInput
from triptych.runtime.cancellation import check_cancelled

MAX_FACTOR: Final = 2_000  # of a ratio of rates in lowest terms: the filter has 20 times as many numbers
WORK: Final = 16  # times the bytes of a file: a second at 44,100 Hz takes 10 ms to resample
_BETA: Final = 5.0  # of the Kaiser window, and the half length below: scipy.signal.resample_poly
_HALF_LENGTH: Final = 10
_BLOCK: Final = 8_192  # results at once

Rate = Annotated[int, Field(ge=1, le=MAX_RATE)]


class DecodeWav(MapStep):
    """WAV files to signals, FP32 [n,t] from -1 to 1: PCM of 8, 16, 24 and 32 bit, float of 32 and 64.

    Channels are mixed to their mean. A file of another rate than `sample_rate` is refused or resampled, as `resample`
    does. Shorter rows are filled up with 0 at their end: to `length` samples, or to the longest row of the batch. A
    file that is cut off is refused; one of unknown size, as written to a pipe, ends with its bytes.
    """

    WRITES = ("output", "lengths")

    op: Literal["decode_wav"]
    sample_rate: Annotated[Rate, Field(description="of the signals, in Hz")]
    other_rates: Literal["refuse", "resample"] = "refuse"
    channels: Annotated[Literal["mix", "refuse"], Field(description="what to do with more than one")] = "mix"
    length: Annotated[int | None, Field(ge=1, le=1 << 24, description="samples of each row")] = None
    too_long: Annotated[Literal["refuse", "cut"], Field(description="what to do with more than `length`")] = "refuse"
    max_seconds: Annotated[float, Field(gt=0, le=86_400, description="of each file")] = 60.0
    max_request_samples: Annotated[
        int,
        Field(ge=1, le=2**30, description="of one request, filled up, or before files are mixed and resampled"),
    ] = 1 << 24
    lengths: Annotated[Name | None, Field(description="INT32 [n]: samples of each row before it is filled up")] = None

    def check(self, scope: Scope, facts: Mapping[str, Facts]) -> Iterator[tuple[str, str]]:
        if self.lengths == self.result:
            yield "lengths", f"'{self.lengths}' is already the name of the signals"

    def examples(self) -> dict[str, object]:
        return {self.input: _silence(self.sample_rate, min(self.length or 1600, 1600))}

    def unpacked_bytes(self, inputs: Mapping[str, Array]) -> int:
        files = inputs.get(self.input)
        return 0 if files is None or files.dtype != np.object_ else WORK * sum(map(len, files.flat))

    def row_bytes(self) -> int:
        return 4 * (self.length or 0)

    def made_bytes(self, env: Environment) -> int:
        return env.rows * self.row_bytes()

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        known = dict.fromkeys(self.writes(), Facts())
        known[self.result] = Facts(width=self.length)
        return known

    def compile(self, scope: Scope) -> Run:
        source, target, lengths = self.input, self.result, self.lengths

        def run(env: Environment) -> None:
            files = [self._read(data, row) for row, data in enumerate(env[source])]
            width = self.length or max(map(self._samples, files), default=0)
            self._refuse_many(max(len(files) * width, sum(file.frames for file in files)))
            signals = [self._signal(file, row) for row, file in enumerate(files)]
            out = np.zeros((len(signals), width), np.float32)
            for row, signal in enumerate(signals):
                if len(signal) > width and self.too_long == "refuse":
                    raise InvalidInput(source, f"at most {width} samples", f"row {row}: {len(signal)}")
                out[row, : len(signal)] = signal[:width]
            env[target] = out
            if lengths is not None:
                env[lengths] = np.array([min(len(signal), width) for signal in signals], np.int32)

        return run

    def _read(self, data: bytes, row: int) -> Wav:
        """A file of which no sample is decoded. Raises `InvalidInput`."""
        try:
            wav = read_wav(data)
        except BrokenWav as error:
            raise InvalidInput(self.input, "a WAV file", f"row {row}: a file {error}") from None
        if fault := self._fault(wav):
            raise InvalidInput(self.input, fault[0], f"row {row}: {fault[1]}")
        return wav

    def _samples(self, wav: Wav) -> int:
        """Number of samples of a file at our rate."""
        up, down = _ratio(wav.rate, self.sample_rate)
        return -(-wav.frames * up // down)

    def _refuse_many(self, samples: int) -> None:
        """Raises `InvalidInput`. One long file beside many short ones would fill up all of them."""
        if samples > self.max_request_samples:
            most = f"at most {self.max_request_samples} samples in one request, each row filled up to the longest"
            raise InvalidInput(self.input, most, f"{samples}")

    def _signal(self, wav: Wav, row: int) -> Array:
        """The samples of one file at our rate, FP32 [t]. Raises `InvalidInput`."""
        check_cancelled()
        mono = wav.mono()
        if not np.isfinite(mono).all():
            raise InvalidInput(self.input, "finite samples", f"row {row}: NaN or infinity")
        return mono if wav.rate == self.sample_rate else resampled(mono, wav.rate, self.sample_rate)

    def _fault(self, wav: Wav) -> tuple[str, str] | None:
        """Want and got of a file that is not served; None if it is."""
        if not wav.frames:
            return "at least one sample", "none"
        if wav.channels > 1 and self.channels == "refuse":
            return "one channel", f"{wav.channels}"
        if wav.frames > self.max_seconds * wav.rate:
            return f"at most {self.max_seconds:g} s", f"{wav.frames / wav.rate:.1f} s"
        if wav.rate != self.sample_rate:
            ratio = _ratio(wav.rate, self.sample_rate)
            if self.other_rates == "refuse" or max(ratio) > MAX_FACTOR:
                return f"{self.sample_rate} Hz", f"{wav.rate} Hz"
        return None


class Resample(MapStep):
    """Signals [n,...,t] of one rate to another, FP32, along the last dimension.

    A polyphase filter with a Kaiser window, as `scipy.signal.resample_poly` has it by default; no samples are assumed
    beyond the ends. The result has ceil(t * target_rate / source_rate) samples.
    """

    op: Literal["resample"]
    source_rate: Rate
    target_rate: Rate

    @model_validator(mode="after")
    def _filter_is_short(self) -> Self:
        up, down = _ratio(self.source_rate, self.target_rate)
        if max(up, down) > MAX_FACTOR:
            raise ValueError(f"want rates whose ratio has terms up to {MAX_FACTOR}, got {up} to {down}")
        return self

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        width, (up, down) = facts.get(self.input, Facts()).width, _ratio(self.source_rate, self.target_rate)
        return {self.result: Facts(width=None if width is None else -(-width * up // down))}

    def made_bytes(self, env: Environment) -> int:
        up, down = _ratio(self.source_rate, self.target_rate)
        return 8 * (-(-self.elements(env) * up // down) + env.rows)

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        source_rate, target_rate = self.source_rate, self.target_rate

        def resample(signals: Array) -> Array:
            if signals.ndim < 2 or signals.dtype == np.object_:
                raise ContractViolation(f"resample: want numbers [n,...,t], got {describe_array(signals)}")
            flat = signals.reshape(math.prod(signals.shape[:-1]), signals.shape[-1])
            out = np.stack([resampled(signal, source_rate, target_rate) for signal in flat])
            return out.reshape(*signals.shape[:-1], out.shape[-1])

        return resample


def resampled(signal: Array, source_rate: int, target_rate: int) -> Array:
    """A signal [t] at another rate, FP32. The filter runs over the samples that are there, others count as 0."""
    up, down = _ratio(source_rate, target_rate)
    if up == down:
        return signal.astype(np.float32)
    phases, half = _filter(up, down)
    taps = phases.shape[1]
    count = -(-len(signal) * up // down)
    padded = np.zeros(len(signal) + 2 * taps + half // up, np.float32 if signal.dtype == np.float32 else np.float64)
    padded[taps : taps + len(signal)] = signal
    windows = sliding_window_view(padded, taps)
    out = np.empty(count, np.float32)
    for start in range(0, count, _BLOCK):
        check_cancelled()
        at = np.arange(start, min(start + _BLOCK, count)) * down + half
        # Result k is the sum of h[at - m * up] * x[m]; the window that ends with x[at // up] holds all of these m.
        block = windows[at // up + 1].astype(np.float64, copy=False)
        out[start : start + _BLOCK] = np.einsum("kt,kt->k", block, phases[at % up])
    return out


def _ratio(source_rate: int, target_rate: int) -> tuple[int, int]:
    """The factors by which a signal is filled up with zeros, and thinned out, in lowest terms."""
    common = math.gcd(source_rate, target_rate)
    return target_rate // common, source_rate // common


@lru_cache(maxsize=16)
def _filter(up: int, down: int) -> tuple[Array, int]:
    """The low-pass filter [up,taps], for each phase from its last tap to its first, and half of its length."""
    most = max(up, down)
    half = _HALF_LENGTH * most
    places = np.arange(-half, half + 1)
    taps = np.sinc(places / most) * np.kaiser(2 * half + 1, _BETA)
    taps *= up / taps.sum()
    rows = -(-len(taps) // up)
    padded = np.zeros(rows * up)
    padded[: len(taps)] = taps
    return np.ascontiguousarray(padded.reshape(rows, up).T[:, ::-1]), half


def _silence(rate: int, frames: int) -> bytes:
    """A WAV file of 16 bit without sound."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    samples = struct.pack("<4sI", b"data", 2 * frames) + bytes(2 * frames)
    return struct.pack("<4sI4s", b"RIFF", 4 + len(form) + len(samples), b"WAVE") + form + samples


STEPS: Final[tuple[type[Step], ...]] = (DecodeWav, Resample)
