"""Markdown pages of the tree: their links, anchors and the paths that they name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[3]
DECISIONS = ROOT / "docs/decisions"  # dated: they name files as they were on their day
CHANGES = ROOT / "CHANGELOG.md"  # names what has been renamed and removed
MADE = ("benchmarks/results/gpu",)  # written by a command, and not committed

_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+?)\s*$", re.MULTILINE)
_FENCE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]+`")
_TOP = "services|cli|tools|local|tests|docs|benchmarks|helm|manifests|examples|model-repository"
_PATH = re.compile(rf"`((?:{_TOP})/[\w./-]+)`")


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@dataclass(frozen=True)
class Page:
    """One file. `links` are relative, as written; `paths` are in code spans and begin at the top of the tree."""

    file: Path

    @cached_property
    def text(self) -> str:
        """The page without its fenced blocks."""
        return _FENCE.sub("", self.file.read_text("utf-8"))

    @property
    def links(self) -> list[str]:
        found = _LINK.findall(_CODE.sub("", self.text))
        return [link for link in found if not re.match(r"[a-z]+:", link)]

    @property
    def paths(self) -> list[str]:
        return [path for path in _PATH.findall(self.text) if path not in MADE]

    @cached_property
    def anchors(self) -> frozenset[str]:
        seen: dict[str, int] = {}
        anchors = set()
        for heading in _HEADING.findall(self.text):
            base = slug(heading)
            count = seen.get(base, 0)
            seen[base] = count + 1
            anchors.add(f"{base}-{count}" if count else base)
        return frozenset(anchors)


def pages() -> dict[Path, Page]:
    """Every page of the tree by its file."""
    files = (file for file in ROOT.rglob("*.md") if not _is_hidden(file.relative_to(ROOT)))
    return {file: Page(file) for file in sorted(files)}


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part in ("node_modules", "build", "fuzz-found") for part in path.parts)
