"""Reader of WAV files: PCM of 8, 16, 24 and 32 bit, and floats of 32 and 64 bit, plain or WAVE_FORMAT_EXTENSIBLE.

Multimedia Programming Interface and Data Specifications 1.0 (1991); mmreg.h for the extensible form.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from triptych.datatypes import Array

PCM: Final = 1
FLOAT: Final = 3
EXTENSIBLE: Final = 0xFFFE
# What follows the two bytes of the format in the GUID of the extensible form.
_GUID: Final = bytes.fromhex("0000000010008000 00aa00389b71")
_OTHERS: Final = {2: "ADPCM", 6: "A-law", 7: "mu-law", 0x11: "IMA ADPCM", 0x31: "GSM 6.10", 0x55: "MP3"}
_CONTAINERS: Final = {b"RIFX": "RIFX (big-endian)", b"RF64": "RF64", b"BW64": "BW64", b"FORM": "AIFF", b"fLaC": "FLAC",
                      b"OggS": "Ogg", b"ID3\x03": "MP3", b"ID3\x04": "MP3", b"caff": "CAF"}  # fmt: skip
# A writer to a pipe does not know the size: FFmpeg states 0xffffffff, SoX 0x7ffff000 and some header more.
UNKNOWN_SIZE: Final = 0x7FFF_F000
MAX_CHANNELS: Final = 32
MAX_RATE: Final = 768_000
MAX_CHUNKS: Final = 1_000  # before the samples: 8 million empty ones in 64 MiB took 3 s
_BLOCK: Final = 1 << 16  # samples decoded at once: one of 8 bit takes 24 bytes meanwhile
_DTYPES: Final = {(PCM, 8): "u1", (PCM, 16): "<i2", (PCM, 32): "<i4", (FLOAT, 32): "<f4", (FLOAT, 64): "<f8"}


class BrokenWav(ValueError):
    """The file is cut off, inconsistent, or of a variant that is not served; the text says which."""


class Wav(NamedTuple):
    """A WAV file: its format, and its samples as bytes."""

    rate: int
    channels: int
    bits: int
    kind: int  # PCM or FLOAT
    data: memoryview

    @property
    def frames(self) -> int:
        return len(self.data) // (self.channels * self.bits // 8)

    def mono(self) -> Array:
        """The mean of the channels, FP32 [frames]."""
        out, block = np.empty(self.frames, np.float32), _BLOCK // self.channels
        for start in range(0, self.frames, block):
            samples = self.samples(start, start + block)
            mean = samples[:, 0] if self.channels == 1 else samples.mean(axis=1, dtype=np.float32)
            out[start : start + block] = mean
        return out

    def samples(self, first: int = 0, end: int | None = None) -> Array:
        """The samples of some frames, FP32 [frames,channels].

        Whole numbers become -1 to below 1 (8 bit: 128 is 0, as all have it).
        """
        frame = self.channels * self.bits // 8
        data = self.data[first * frame : None if end is None else end * frame]
        if (self.kind, self.bits) == (PCM, 24):
            triples = np.frombuffer(data, np.uint8).reshape(-1, 3)
            wide = np.zeros((len(triples), 4), np.uint8)
            wide[:, 1:] = triples
            values = wide.view("<i4")[:, 0] / np.float32(1 << 31)
        else:
            values = np.frombuffer(data, _DTYPES[self.kind, self.bits])
            if self.kind == PCM:
                zero = 128 if self.bits == 8 else 0
                values = (values.astype(np.float64) - zero) / (1 << (self.bits - 1))
        return values.astype(np.float32).reshape(-1, self.channels)


def read_wav(data: bytes) -> Wav:
    """The format and the samples of a file, of which none is decoded. Raises `BrokenWav`."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise BrokenWav(_other(data))
    form: tuple[int, int, int, int] | None = None
    for name, start, size in _chunks(data):
        if name == b"fmt ":
            if start + size > len(data):
                break
            form = _format(data[start : start + size])
        elif name == b"data":
            if form is None:
                raise BrokenWav("whose samples come before their format")
            return _wav(data, form, start, size)
    raise BrokenWav(f"cut off after {len(data)} bytes, before its samples")


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and stated size of each chunk. One of an odd size has a byte of padding behind it.

    Raises `BrokenWav` for too many of them.
    """
    at = 12
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            return
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], at + 8, size
        at += 8 + size + size % 2
    raise BrokenWav(f"of more than {MAX_CHUNKS} chunks before its samples")


def _format(chunk: bytes) -> tuple[int, int, int, int]:
    """Kind, channels, rate and bits of a sample. Raises `BrokenWav`."""
    if len(chunk) < 16:
        raise BrokenWav(f"whose format has {len(chunk)} bytes, want 16")
    kind, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", chunk)
    if kind == EXTENSIBLE:
        if len(chunk) < 40 or chunk[26:40] != _GUID:
            raise BrokenWav("of an extensible format that is not PCM or float")
        kind = int.from_bytes(chunk[24:26], "little")
    if (kind, bits) not in _DTYPES and (kind, bits) != (PCM, 24):
        named = _OTHERS.get(kind, "PCM" if kind == PCM else "float" if kind == FLOAT else f"format {kind}")
        raise BrokenWav(f"of {named} with {bits} bit; served are PCM of 8, 16, 24 and 32 bit, float of 32 and 64")
    if not 1 <= channels <= MAX_CHANNELS or not 1 <= rate <= MAX_RATE:
        raise BrokenWav(f"of {channels} channels at {rate} Hz")
    if block != channels * bits // 8:
        raise BrokenWav(f"whose frames have {block} bytes, want {channels * bits // 8}")
    return kind, channels, rate, bits


def _wav(data: bytes, form: tuple[int, int, int, int], start: int, size: int) -> Wav:
    kind, channels, rate, bits = form
    there = len(data) - start
    if size > there and size < UNKNOWN_SIZE:
        raise BrokenWav(f"cut off after {len(data)} bytes: {there} bytes of samples, want {size}")
    samples = memoryview(data)[start : start + min(size, there)]
    frame = channels * bits // 8
    if len(samples) % frame:
        raise BrokenWav(f"cut off within a frame: {len(samples)} bytes of samples in frames of {frame}")
    return Wav(rate, channels, bits, kind, samples)


def _other(data: bytes) -> str:
    name = _CONTAINERS.get(data[:4])
    if name is None and data[:2] in (b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"):
        name = "MP3"
    return f"of the format {name}" if name else f"of {len(data)} bytes that is no WAV"
