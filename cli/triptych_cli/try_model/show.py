"""Values as lines of text, and pictures as files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2

from triptych.contract.summary import pictures_in, summary
from triptych.contract.trace import Moment


def lines_of(moment: Moment, last_part: str) -> Iterator[str]:
    """The part if it is another than the last one, and a line for each value."""
    if moment.part != last_part:
        yield moment.part
    for name, value in moment.values.items():
        yield f"  {moment.step:<18} {name:<16} {summary(value)}"


def write_pictures(moment: Moment, folder: Path) -> None:
    """A PNG file of each picture that a step made, named as the lines of the step."""
    for name, value in moment.values.items():
        for row, picture in enumerate(pictures_in(value)):
            file = f"{moment.part} {moment.step} {name} {row}.png".replace("/", "_").replace(" ", "_")
            cv2.imwrite(str(folder / file), picture)
