"""Names of aliases, and the version that one of them names."""

from __future__ import annotations

from typing import Any

import pytest

from triptych.errors import InvalidParameter, UnknownAlias
from triptych.protocol.aliases import is_alias_name, resolve_alias


@pytest.mark.parametrize("name", ["production", "Champion", "v1-rc", "blue_2", "2026-11", "-", "a" * 255, "latest-1"])
def test_a_name_has_letters_digits_and_dashes(name: str) -> None:
    assert is_alias_name(name)


@pytest.mark.parametrize(
    "name", ["", "a" * 256, "latest", "LATEST", "4", "04", "v4", "V12", "a b", "a.b", "a/b", "é", "a\n", "\0", "٤"]
)
def test_a_name_that_could_be_read_otherwise_is_none(name: str) -> None:
    assert not is_alias_name(name)


def test_an_alias_is_the_version_that_it_names() -> None:
    assert resolve_alias("sales_de", "production", {"production": 4, "challenger": 5}) == 4


def test_an_unknown_alias_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownAlias, match="^model 'sales_de' has no alias 'prod'; known: challenger, production$"):
        resolve_alias("sales_de", "prod", {"production": 4, "challenger": 5})
    with pytest.raises(UnknownAlias, match="^model 'sales_de' has no alias ''$"):
        resolve_alias("sales_de", "", {})
    with pytest.raises(UnknownAlias, match=r"x\.\.\. \(10000 characters\)'; known: .*, \.\.\. \(64 in all\)$"):
        resolve_alias("sales_de", "x" * 10_000, {f"a{number}": 1 for number in range(64)})


@pytest.mark.parametrize("alias", [4, 4.0, True])
def test_an_alias_that_is_no_text_is_refused(alias: Any) -> None:
    with pytest.raises(InvalidParameter, match="^parameter 'alias': want a string that names a version of the model"):
        resolve_alias("sales_de", alias, {"production": 4})
