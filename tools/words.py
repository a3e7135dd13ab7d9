"""Check for retired words: names and sentences use the field's word for each mechanism.

    python -m tools.words              print each use of a retired word; exit status 1 if there is one (make lint)
    python -m tools.words --counts     print the number of uses of every entry, also of those that are commented out
    python -m tools.words --activate   write the counts into the list, and activate every entry without a use

The list is tools/retired_words.txt. An entry is a line `SCOPE PATTERN -> INSTEAD`:

    name   a regular expression on an identifier or a part of a path, written as its words: `OpenDoor` is `_open_door_`;
           in Markdown on those in code
    text   a regular expression on comments, strings and documentation, without case
    start  a regular expression on the first words of a docstring
    allow  a regular expression for text that is not checked: names of third parties

An ordinary word is retired in one folder only: `name@services/controller/ _moves_ -> loader`.

`# N: SCOPE PATTERN -> INSTEAD` is an entry with N uses, which is not checked yet.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "tools/retired_words.txt"

SUFFIXES = {".py", ".md", ".yaml", ".yml", ".tpl", ".sh", ".proto", ".toml", ".json", ".json5", ".svg"}
NAMES = {"Makefile", "Dockerfile", "run", "triptych"}
# Decisions and the changelog are dated, renders come from the chart, and this check quotes the words.
EXEMPT = re.compile(
    r"docs/decisions/|CHANGELOG\.md$|LICENSE$|manifests/.*/triptych\.yaml$|benchmarks/results/|tests/clients/|"
    r"tools/words\.py$|tools/retired_words\.txt$|tests/unit/tools/test_words\.py$|.*_pb2\.pyi?$"
)
ENTRY = re.compile(
    r"(?:# (?P<uses>\d+): )?(?P<scope>name|text|start|allow)(?:@(?P<folder>\S+))? +"
    r"(?P<pattern>\S.*?)(?: +-> +(?P<instead>.+))?"
)
HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
DOCSTRING = re.compile(r"""[rbuRBU]*("{3}|'{3})""")
CODE_SPAN = re.compile(r"`[^`]+`")


class ListError(Exception):
    """A line of the list is no entry; the text names it."""


@dataclass(frozen=True)
class Entry:
    """One retired word, or with scope `allow` a text that is not checked."""

    scope: str
    pattern: str
    instead: str
    active: bool
    folder: str = ""  # a prefix of the paths that are checked

    def __str__(self) -> str:
        scope = f"{self.scope}@{self.folder}" if self.folder else self.scope
        return f"{scope:<5} {self.pattern}" + (f" -> {self.instead}" if self.instead else "")

    @property
    def regex(self) -> re.Pattern[str]:
        """The compiled pattern."""
        return compiled(self.pattern)


@dataclass(frozen=True)
class Piece:
    """A part of a file: an identifier, a text, or the start of a docstring."""

    scope: str
    line: int
    text: str


@dataclass(frozen=True)
class Use:
    """One use of a retired word."""

    path: str
    line: int
    found: str
    entry: Entry

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: '{self.found}' is retired; write: {self.entry.instead}"


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern without case."""
    return re.compile(pattern, re.IGNORECASE)


def read_entries(text: str) -> list[Entry]:
    """Parse the list. Raises `ListError`."""
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        found = ENTRY.fullmatch(line.strip())
        if found is None:
            if line.strip() and not line.startswith("#"):
                raise ListError(f"{LIST.name}:{number}: want 'SCOPE PATTERN -> INSTEAD', got '{line}'")
            continue
        entries.append(entry_of(found))
    return entries


def entry_of(found: re.Match[str]) -> Entry:
    """The entry of a line that matches `ENTRY`."""
    return Entry(found["scope"], found["pattern"], found["instead"] or "", found["uses"] is None, found["folder"] or "")


def files() -> list[str]:
    """Paths of the files that are checked, relative to the checkout."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [
        path
        for path in listed
        if (Path(path).suffix in SUFFIXES or Path(path).name in NAMES)
        and not EXEMPT.match(path)
        and (ROOT / path).is_file()
    ]


def uses_in(path: str, text: str, entries: Sequence[Entry]) -> Iterator[Use]:
    """Uses of retired words in one file."""
    allowed = [entry.regex for entry in entries if entry.scope == "allow"]
    here = [entry for entry in entries if path.startswith(entry.folder)]
    by_scope = {scope: [each for each in here if each.scope == scope] for scope in ("name", "text", "start")}
    for piece in pieces(path, text):
        checked = piece.text
        for regex in allowed:
            checked = regex.sub(" ", checked)
        for entry in by_scope[piece.scope]:
            found = entry.regex.match(checked) if piece.scope == "start" else entry.regex.search(checked)
            if found:
                yield Use(path, piece.line, found[0].strip("_"), entry)


def pieces(path: str, text: str) -> Iterator[Piece]:
    """The identifiers and texts of a file, and the words of its path."""
    for part in Path(path).parts:
        yield Piece("name", 1, words_of(part.partition(".")[0].replace("-", "_")))
    if path.endswith(".py"):
        yield from python_pieces(text)
        return
    code = code_of_markdown(text) if path.endswith(".md") else text.splitlines()
    for number, (line, names) in enumerate(zip(text.splitlines(), code, strict=True), 1):
        yield Piece("text", number, line)
        yield from (Piece("name", number, words_of(found)) for found in set(IDENTIFIER.findall(names)))


def code_of_markdown(text: str) -> Iterator[str]:
    """The code of each line: all of it within a fenced block, otherwise its code spans."""
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        yield line if fenced else " ".join(CODE_SPAN.findall(line))


def python_pieces(text: str) -> Iterator[Piece]:
    """Identifiers, comments and strings of a Python file."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        line = token.start[0]
        if token.type == tokenize.NAME:
            yield Piece("name", line, words_of(token.string))
        elif token.type in (tokenize.COMMENT, tokenize.STRING):
            if token.type == tokenize.STRING and (quoted := DOCSTRING.match(token.string)):
                yield Piece("start", line, token.string[quoted.end() :].lstrip())
            for below, part in enumerate(token.string.splitlines()):
                yield Piece("text", line + below, part)


@cache
def words_of(identifier: str) -> str:
    """`OpenDoor` and `OPEN_DOOR` as `_open_door_`."""
    return f"_{HUMP.sub('_', identifier).strip('_').lower()}_"


def all_uses(entries: Sequence[Entry], paths: Iterable[str] | None = None) -> list[Use]:
    """Uses of retired words in the checkout."""
    return [
        use
        for path in (files() if paths is None else paths)
        for use in uses_in(path, (ROOT / path).read_text("utf-8"), entries)
    ]


def activated(text: str, counts: dict[Entry, int]) -> str:
    """The list with the counts of entries that have uses; the others become active."""
    lines = []
    for line in text.splitlines():
        found = ENTRY.fullmatch(line.strip())
        if found and found["scope"] != "allow":
            entry = entry_of(found)
            line = f"# {counts[entry]}: {entry}" if counts[entry] else str(entry)
        lines.append(line)
    return "\n".join(lines) + "\n"


def main() -> int:
    """Check, count or activate. Returns 1 if an active entry has uses."""
    parser = argparse.ArgumentParser(
        "python -m tools.words", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", action="store_true", help="uses of every entry")
    parser.add_argument("--activate", action="store_true", help="write the counts, and activate entries without uses")
    options = parser.parse_args()
    text = LIST.read_text("utf-8")
    try:
        entries = read_entries(text)
    except ListError as error:
        sys.stderr.write(f"words: {error}\n")
        return 1
    if not (options.counts or options.activate):
        uses = all_uses([entry for entry in entries if entry.active])
        sys.stdout.write("".join(f"{use}\n" for use in uses))
        return bool(uses)
    counts = dict.fromkeys(entries, 0)
    for use in all_uses(entries):
        counts[use.entry] += 1
    sys.stdout.write("".join(f"{count:5} {entry}\n" for entry, count in counts.items() if entry.scope != "allow"))
    if options.activate:
        LIST.write_text(activated(text, counts), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
