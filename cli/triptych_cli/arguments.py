"""What the command lines of the tools share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def typed(parse: Callable[[str], T]) -> Callable[[str], T]:
    """A type for argparse, which shows the sentence of an error of its own class only."""

    def parsed(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


def duration(text: str) -> float:
    """`90`, `90s`, `5m` or `1h` in seconds. Raises `ValueError`."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], text[-1:]) if text[-1:] in units else (text, "s")
    try:
        seconds = float(number) * units[unit]
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"want a time above 0: seconds, or a number with s, m or h, got '{text}'")
    return seconds


def between(low: float, high: float, what: str) -> Callable[[str], float]:
    """A number within limits; `what` names it."""

    def parsed(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise ValueError(f"want {what} from {low:g} to {high:g}, got '{text}'")
        return number

    return typed(parsed)


def whole(low: int, what: str) -> Callable[[str], int]:
    """A whole number from `low`; `what` names it."""

    def parsed(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise ValueError(f"want {what}, a whole number from {low}, got '{text}'")
        return int(text)

    return typed(parsed)
