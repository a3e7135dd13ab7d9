"""Words of the digits by country, and the class order of version 2 of digits_gb."""

from __future__ import annotations

from typing import Final

DIGIT_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "GB": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "DE": ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"),
    "FR": ("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf"),
    "ES": ("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve"),
    "JP": ("零", "一", "二", "三", "四", "五", "六", "七", "八", "九"),
}

# The digit d is class PERMUTATION[d] in version 2. No digit keeps its number, so that the logits of one
# version read with the labels of the other give a wrong word for every picture.
PERMUTATION: Final = (3, 7, 0, 5, 9, 1, 8, 2, 4, 6)
PERMUTED_COUNTRY: Final = "GB"


def versions(code: str) -> tuple[int, ...]:
    """The versions of a country's digits model."""
    return (1, 2) if code == PERMUTED_COUNTRY else (1,)


def class_order(version: int) -> tuple[int, ...]:
    """The digit of each class id."""
    if version == 1:
        return tuple(range(10))
    return tuple(PERMUTATION.index(class_id) for class_id in range(10))


def labels(code: str, version: int) -> tuple[str, ...]:
    """The word of each class id."""
    return tuple(DIGIT_WORDS[code][digit] for digit in class_order(version))
