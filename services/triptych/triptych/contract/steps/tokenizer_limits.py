"""Limits of a tokenizer.json of any author: memory and time to read it, and what a text can become.

The library reads it and encodes in one piece that nothing can interrupt. It has no limits of its own.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MAX_PARTS: Final = 64  # of one pipeline: a million normalizers took 1.1 GiB
MAX_NORMALIZED_BYTES: Final = 1 << 24  # of one text
MAX_WORD_CHARACTERS: Final = 200  # of a word that WordPiece searches: the time grows with their cube
# Words that a model remembers. 10,000, the library's default, took 134 MB with long words of callers. Without any, our
# pages took as long to encode as with 2,000 (2026-12-01).
CACHED_WORDS: Final = 500
CACHED_BYTES: Final = 7 << 20  # of them

_READER: Final = Path(__file__).with_name("tokenizer_reader.py")
READER_BYTES: Final = 48 << 20  # of that process without a file: 35 MiB (2026-12-01)
_WAIT_FACTOR: Final = 10.0  # times the limit of CPU: the machine may be busy
_POLL_S: Final = 0.005  # between two looks at its memory, which grows by 3 MiB meanwhile


@dataclass(frozen=True)
class TokenizerReading:
    """Why a file must not be read here, '' if it may; and the bytes that a tokenizer keeps of it.

    The bytes are measured: for one byte of a file, a usual BPE keeps 7, WordPiece 16, Unigram 21, and a Unigram of
    words of 100 letters 270 (2026-12-01), so that no factor of the file's size both bounds and fits.
    """

    fault: str = ""
    kept_bytes: int = 0


def reading(content: bytes, max_bytes: int, max_s: float, text_bytes: int = 0) -> TokenizerReading:
    """Read a file in a process of its own, with at most so much memory in all and so much CPU.

    With `text_bytes`, the time of texts of that length is tried if the file has patterns.
    """
    seconds = max(1, round(max_s))
    variables = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "RUST_BACKTRACE": "0"}
    with os.fdopen(os.memfd_create("tokenizer"), "wb") as file:
        file.write(content)
        file.flush()
        file.seek(0)
        reader = subprocess.Popen(
            [sys.executable, "-I", str(_READER), str(seconds), str(text_bytes)],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=variables,
        )
    until_s = time.monotonic() + _WAIT_FACTOR * seconds
    try:
        while reader.poll() is None:
            if _memory_bytes(reader.pid) > max_bytes:
                return TokenizerReading(f"takes more than {max_bytes} bytes of memory to read")
            if time.monotonic() > until_s:
                return TokenizerReading(f"takes more than {seconds} s to read")
            time.sleep(_POLL_S)
        if reader.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
            return TokenizerReading(f"takes more than {seconds} s to read")
        if reader.returncode:
            return TokenizerReading(f"ends a process that reads it, with {reader.returncode}")
        assert reader.stdout is not None
        kept, _, fault = reader.stdout.read().decode().strip().partition("\n")
        return TokenizerReading(fault, max(0, int(kept or 0)))
    finally:
        reader.kill()
        reader.communicate()


def _memory_bytes(pid: int) -> int:
    """Memory of a child that nobody has waited for; 0 if it has ended."""
    found = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(found) * os.sysconf("SC_PAGE_SIZE")


def parts_fault(tokenizer: Any, max_text_bytes: int) -> str:
    """Why the parts of a tokenizer of the library are not served, for texts of a size; '' if they are."""
    stages = [part for part in (tokenizer.normalizer, tokenizer.pre_tokenizer) if part is not None]
    parts = [each for stage in stages for each in _parts(json.loads(stage.__getstate__()))]
    if len(parts) > MAX_PARTS:
        return f"has {len(parts)} normalizers and pre-tokenizers, want at most {MAX_PARTS}"
    growth = 1
    for part in parts:
        growth *= _growth(part)
    if growth * max_text_bytes > MAX_NORMALIZED_BYTES:
        most = f"a text of {max_text_bytes} bytes may become {MAX_NORMALIZED_BYTES}"
        return f"can make a text {growth:.3g} times as long; {most}: lower max_bytes"
    characters = getattr(tokenizer.model, "max_input_chars_per_word", 0)
    if characters > MAX_WORD_CHARACTERS:
        return f"has max_input_chars_per_word {characters}, want at most {MAX_WORD_CHARACTERS}"
    processor = tokenizer.post_processor
    return "" if processor is None else _template_fault(json.loads(processor.__getstate__()))


def limit_cache(tokenizer: Any) -> None:
    """Bound what a model of the library remembers of the words of callers."""
    resize = getattr(tokenizer.model, "_resize_cache", None)
    if resize is not None:
        resize(CACHED_WORDS)


def _parts(part: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The parts of a pipeline; the library refuses deep nesting."""
    inner = [each for name in ("normalizers", "pretokenizers", "processors") for each in part.get(name, ())]
    if not inner:
        yield part
    for each in inner:
        yield from _parts(each)


def _growth(part: Mapping[str, Any]) -> int:
    """Bytes behind a part of a text, at most, as a multiple of those before it.

    The forms of Unicode are bounded, and no author writes them: 1.
    """
    match part.get("type"):
        case "ByteLevel":
            return 2
        case "Prepend":
            return 1 + len(part["prepend"].encode())
        case "Replace":
            content, pattern = len(part["content"].encode()), part["pattern"].get("String")
            return max(1, -(-content // len(pattern.encode()))) if pattern else 1 + content
        case "Precompiled":
            table = base64.b64decode(part["precompiled_charsmap"])
            texts = table[4 + int.from_bytes(table[:4], "little") :]  # behind the trie, each with a NUL at its end
            return max(1, *map(len, texts.split(b"\0")))
    return 1


def _template_fault(processor: Mapping[str, Any]) -> str:
    for part in _parts(processor):
        for form, most in (("single", 1), ("pair", 2)):
            pieces = part.get(form)
            texts = sum("Sequence" in piece for piece in pieces) if isinstance(pieces, list) else 0
            if texts > most:
                return f"repeats a text: its template '{form}' has {texts} of them, want {most}"
    return ""
