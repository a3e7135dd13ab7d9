"""The documents of an untrusted YAML file, with one class of errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError


def yaml_contents(text: str) -> Iterator[Any]:
    """The documents of a file. Raises `YAMLError` or `RecursionError`."""
    with _yaml_faults():
        yield from YAML(typ="rt", pure=True).load_all(text)


class UnreadableYAML(YAMLError):
    """Failure of ruamel.yaml at a text with an exception that is not its own."""


@contextmanager
def _yaml_faults() -> Iterator[None]:
    """Raise `YAMLError` for every exception of ruamel.yaml at an untrusted text, except `RecursionError`.

    It raises ValueError for 2026-99-99, KeyError for `!!bool x`, IndexError for `!!int ''`, TypeError for a key that
    is a mapping of mappings.
    """
    try:
        yield
    except (YAMLError, RecursionError):
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise UnreadableYAML(f"cannot be read ({why}); put it in quotes, without a tag") from error
