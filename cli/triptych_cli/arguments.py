"""Parsers and argument types that the commands share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import TypeVar

from triptych.runtime.faults import pattern_words

T = TypeVar("T")


def command_parser(name: str, description: str, examples: str) -> argparse.ArgumentParser:
    """A parser for `triptych NAME`, whose help keeps the lines of both texts."""
    return argparse.ArgumentParser(
        f"triptych {name}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def argument_type(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Convert `ValueError` to the one exception whose text argparse shows."""

    def parsed(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


def duration(text: str) -> float:
    """Parse `90`, `90s`, `5m` or `1h` to seconds. Raises `ValueError`."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], text[-1:]) if text[-1:] in units else (text, "s")
    try:
        seconds = float(number) * units[unit]
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"want a time above 0: seconds, or a number with s, m or h, got '{text}'")
    return seconds


def number_between(low: float, high: float, noun: str) -> Callable[[str], float]:
    """A type for a number within limits; `noun` names it in errors."""

    def parsed(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise ValueError(f"want {noun} from {low:g} to {high:g}, got '{text}'")
        return number

    return argument_type(parsed)


def matching(pattern: str) -> Callable[[str], str]:
    """A type for a text that matches a pattern of the contract."""

    def parsed(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"want {pattern_words(pattern)}, got '{text}'")
        return text

    return argument_type(parsed)


def whole_number(low: int, noun: str) -> Callable[[str], int]:
    """A type for a whole number from `low`; `noun` names it in errors."""

    def parsed(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise ValueError(f"want {noun}, a whole number from {low}, got '{text}'")
        return int(text)

    return argument_type(parsed)
