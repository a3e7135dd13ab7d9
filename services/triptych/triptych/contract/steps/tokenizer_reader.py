"""Program that reads a tokenizer.json, and tries how long a text may take. It is run by path, without this package.

Arguments: most seconds of CPU, bytes of the longest text (0: none is tried). The file comes by stdin. It prints the
bytes that the tokenizer keeps, and a fault of its texts if there is one. It says nothing about a file that is no
tokenizer: that is found again, and named, by whoever reads it.

A pattern of the library backtracks. `\\s+$` takes 1 s for 16 KiB of spaces with a letter behind them, and 17 s for
64 KiB (tokenizers 0.23.3, 2026-12-01). Which pattern does, and for which text, shows only in a trial.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from tokenizers import Tokenizer

TEXT_S: Final = 1.0  # of CPU, for one text of the longest length, beside the time that each byte takes
BYTE_S: Final = 4e-6  # a byte of usual files takes 0.3 to 1 us
NOISE_S: Final = 0.02  # time that a short text may take on a busy machine
# Lengths that are tried, each with how many texts stay for the next. What grows by the square is slower than what makes
# many tokens from about 1 KiB on.
LENGTHS: Final = ((64, 1000), (1024, 60), (4096, 12), (16_384, 5))
USUAL: Final = " a\n\tA1.'_-\u00e9\u4e2d\u0301\U0001f600\0"
PATTERN_CHARACTERS: Final = 16  # of a file's patterns, beside the usual ones
PATTERN_WORDS: Final = 6
MAX_TRIED: Final = 65_536  # bytes of a text; each may take 400 bytes of memory


def main() -> None:
    seconds, text_bytes = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    content = sys.stdin.buffer.read()
    before = _memory_bytes()
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except BaseException:
        return
    print(_memory_bytes() - before)
    patterns = list(_patterns([tokenizer.normalizer, tokenizer.pre_tokenizer]))
    if text_bytes and patterns:
        print(_fault(tokenizer, "".join(patterns), text_bytes))


def _memory_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _patterns(parts: list[Any]) -> Iterator[str]:
    """The regular expressions of the parts, and of those within them."""
    stack = [json.loads(part.__getstate__()) for part in parts if part is not None]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            if isinstance(part.get("Regex"), str):
                yield part["Regex"]
            stack += part.values()
        elif isinstance(part, list):
            stack += part


def _fault(tokenizer: Any, patterns: str, text_bytes: int) -> str:
    """Why texts of a length may take too long; '' if none was found. The worst of short texts are made longer."""
    tokenizer.no_truncation()
    most_s = TEXT_S + BYTE_S * text_bytes
    forms = list(_forms(patterns))
    longest = min(text_bytes, MAX_TRIED)
    for length, count in (*[each for each in LENGTHS if each[0] < longest], (longest, 0)):
        taken = list[tuple[float, tuple[str, str]]]()
        for unit, end in forms:
            text = (unit * length).encode()[: length - len(end.encode())].decode(errors="ignore") + end
            try:
                taken_s = _taken_s(tokenizer, text, most_s * length / text_bytes)
            except BaseException:
                return f"has a pattern that the library gives up at {length} bytes of {_shown(unit)}"
            if taken_s > NOISE_S and taken_s * text_bytes / length > most_s:
                limit = f"a text of {text_bytes} bytes may take {most_s:.2g} s"
                return f"takes {taken_s:.2g} s for {length} bytes of {_shown(unit)}, {limit}: lower max_bytes"
            taken.append((taken_s, (unit, end)))
        forms = [form for _, form in sorted(taken, reverse=True)[:count]]
    return ""


def _taken_s(tokenizer: Any, text: str, most_s: float) -> float:
    """CPU time of a text; the smaller of two if the first one is over the limit."""
    found = list[float]()
    while not found or (len(found) < 2 and found[0] > max(NOISE_S, most_s)):
        start_s = time.process_time()
        tokenizer.encode(text)
        found.append(time.process_time() - start_s)
    return min(found)


def _forms(patterns: str) -> Iterator[tuple[str, str]]:
    """The repeated part of each text, and its end: characters that the patterns name, and one of each usual kind."""
    named = list(dict.fromkeys(each for each in patterns if each.isalnum() or each in "'\"<>-_/.,:;=#@&"))
    characters = list(dict.fromkeys([*USUAL, *named[:PATTERN_CHARACTERS]]))
    # The library looks first whether a word of the pattern is in the text at all.
    words = [f" {each}" for each in (*re.findall(r"[A-Za-z0-9]{2,}", patterns)[:PATTERN_WORDS], *named[:PATTERN_WORDS])]
    for first in characters:
        for end in ("", " ", "a", "1", "\0", *words):
            yield first, end
        for second in characters[:6]:
            if first != second:
                yield first + second, "\0"


def _shown(unit: str) -> str:
    return f"'{unit}'".encode("unicode_escape").decode()


if __name__ == "__main__":
    main()
