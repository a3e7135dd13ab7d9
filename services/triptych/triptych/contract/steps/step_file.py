"""Files of a version that its steps read, such as a tokenizer.json or a vocabulary. They travel with the contract."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from triptych.errors import ContractViolation
from triptych.runtime.faults import in_words

# The mirror of a store downloads files of these names for the controller, and knows no contract.
SUFFIXES: Final = (".json", ".txt")
MAX_STEP_FILES: Final = 8  # of one contract
MAX_STEP_FILE_BYTES: Final = 32 << 20  # the tokenizer.json of a vocabulary of 250,000 words has 17 MB

MAX_WORDS: Final = 1 << 20  # of a vocabulary: 32 MiB of empty lines took 580 MiB, more than a stage has
WORD_BYTES: Final = 250  # of one word in a step, at most

FILE_PATTERN: Final = in_words(
    r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*\.(json|txt)$",
    "a path in the version's folder of letters, digits, . _ and -, ending in .json or .txt",
)

FilePath = Annotated[
    str,
    Field(
        pattern=FILE_PATTERN,
        max_length=200,
        description="path in the version's folder, ending in .json or .txt",
    ),
]


@dataclass(frozen=True)
class StepFile:
    """The content of a file, and `sha256:<hex>` of it."""

    content: bytes
    digest: str

    @classmethod
    def of(cls, content: bytes) -> StepFile:
        return cls(content, f"sha256:{hashlib.sha256(content).hexdigest()}")


def word_count(path: str, content: bytes) -> int:
    """Number of words if the file is a vocabulary, 0 for JSON. A vocabulary may begin with `[PAD]`."""
    is_json = path.endswith(".json") and content[:64].lstrip()[:1] in (b"{", b"[")
    return 0 if is_json else content.count(b"\n")


def words_of(path: str, file: StepFile) -> tuple[str, ...]:
    """The lines of a vocabulary in UTF-8, without their ends: one word a line. Raises `ContractViolation`."""
    try:
        text = file.content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ContractViolation(f"{path}: not UTF-8: byte 0x{file.content[error.start]:02x} at {error.start}") from None
    if path.endswith(".json") and text.lstrip().startswith(("[", "{")):
        raise ContractViolation(f"{path}: want one word a line, got JSON")
    if (count := text.count("\n")) > MAX_WORDS:
        raise ContractViolation(f"{path}: want at most {MAX_WORDS} words, got {count}")
    words = text.replace("\r\n", "\n").split("\n")
    if words[-1] == "":
        words.pop()
    if not words:
        raise ContractViolation(f"{path}: holds no word; want one a line")
    return tuple(words)
