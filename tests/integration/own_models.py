"""The commands and edits of docs/guides/own-models.md, unchanged but for their folder and addresses."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from local.environments import ROOT

PAGE = ROOT / "docs/guides/own-models.md"
FOLDER, ADDRESS = "/tmp/own", "127.0.0.1:9000"  # as the page has them
BLOCK = re.compile(r"^```(sh|diff|python|text) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TIMEOUT_S = 200


@dataclass(frozen=True)
class Block:
    """A code block of the page: its language, what it belongs to, and its text."""

    language: str
    label: str
    text: str


def blocks(page: Path = PAGE) -> list[Block]:
    """The labelled code blocks of the page, in order."""
    return [Block(*found) for found in BLOCK.findall(page.read_text("utf-8"))]


def edited(text: str, diff: str) -> str:
    """The text after an edit: lines with `-` are replaced by those with `+`, those with a blank stay, `@@` parts edits.

    Raises `ValueError` if the lines are not there exactly once.
    """
    lines = text.splitlines()
    for hunk in diff.split("@@\n"):
        changes = hunk.splitlines()
        before = [line[1:] for line in changes if line[0] in "- "]
        places = [at for at in range(len(lines)) if lines[at : at + len(before)] == before]
        if len(places) != 1:
            raise ValueError(f"want once in the contract, got {len(places)} times:\n" + "\n".join(before))
        lines[places[0] : places[0] + len(before)] = [line[1:] for line in changes if line[0] in "+ "]
    return "".join(f"{line}\n" for line in lines)


class Walk:
    """The walk through the page: its commands and edits, in a folder of one's own."""

    def __init__(self, folder: Path, variables: Mapping[str, str] = os.environ) -> None:
        self.folder, self._variables = folder, variables
        self._blocks = blocks()

    def text(self, language: str, label: str) -> str:
        """The only block of that language and label, with the folder of the walk."""
        (found,) = [block for block in self._blocks if (block.language, block.label) == (language, label)]
        return found.text.replace(FOLDER, str(self.folder))

    def labels(self) -> Iterator[str]:
        """The examples, in the order of the page."""
        others = ("setup", "serve", "call")
        labels = (block.label for block in self._blocks if block.language == "sh")
        yield from dict.fromkeys(label for label in labels if label not in others)

    def follow(self, label: str) -> str:
        """Run the commands of an example and make its edits, in the order of the page. Returns what was printed."""
        printed = ""
        for block in self._blocks:
            if block.label == label and block.language == "sh":
                printed += self.run(block.text)
            elif block.label == label and block.language == "diff":
                contract = self.folder / "models" / label / "1/contract.yaml"
                contract.write_text(edited(contract.read_text("utf-8"), block.text), "utf-8")
        return printed

    def run(self, commands: str) -> str:
        """Run commands in the checkout, after those of the setup. Returns what was printed."""
        text = self.text("sh", "setup") + commands.replace(FOLDER, str(self.folder))
        shell = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(
            shell, cwd=ROOT, env=dict(self._variables), capture_output=True, text=True, timeout=TIMEOUT_S
        )
        assert not done.returncode, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout
