"""Aliases: names for versions of a model, as ServedModels declare them and the catalog publishes them.

The names are those of MLflow's registry, where `latest` and `v1` are reserved too. Here their letters are of ASCII, and
no name is a number, which is a version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from triptych.errors import InvalidParameter, UnknownAlias
from triptych.protocol.parameters import Parameter

# Both patterns are of RE2, which the API server has, and mean the same here.
ALIAS_NAME: Final = r"^[A-Za-z0-9_-]{1,255}$"
RESERVED_ALIAS: Final = r"^(?i:latest|v?[0-9]+)$"
ALIAS_RULE: Final = "want a name of 1 to 255 letters, digits, _ and -; latest, numbers and names like v1 are reserved"

ALIAS_PARAMETER: Final = "alias"  # of a request
_NAME, _RESERVED = re.compile(ALIAS_NAME, re.ASCII), re.compile(RESERVED_ALIAS, re.ASCII)


def is_alias_name(name: str) -> bool:
    """Whether a version may have that name."""
    return bool(_NAME.fullmatch(name)) and not _RESERVED.fullmatch(name)


def resolve_alias(model: str, alias: Parameter, aliases: Mapping[str, int]) -> int:
    """The version that an alias of a model names, which may not exist. `aliases` are those of the catalog.

    Raises `InvalidParameter` or `UnknownAlias`.
    """
    if not isinstance(alias, str):
        want = "a string that names a version of the model"
        raise InvalidParameter(ALIAS_PARAMETER, want, f"a {type(alias).__name__}")
    version = aliases.get(alias)
    if version is None:
        raise UnknownAlias(model, alias, aliases)
    return version
