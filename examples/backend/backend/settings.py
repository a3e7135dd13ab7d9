"""The settings, read once from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class WrongSetting(Exception):
    """A setting is missing; the text names it."""


@dataclass(frozen=True)
class Settings:
    """`BACKEND_*` variables in small letters."""

    jwt_key: str  # HS256, shared with whoever gives the tokens out
    jwt_audience: str = "forecasts"
    chain: str = "127.0.0.1:9000"  # preprocess; dns:///preprocess-pods:9000 in a cluster, for all its pods
    timeout_s: float = 5.0  # for one request, retries included
    features: str = "sqlite:features.db"  # or redis://host:6379/0
    host: str = "127.0.0.1"
    port: int = 8080


def read(environment: Mapping[str, str]) -> Settings:
    """Raises `WrongSetting`."""
    found = {
        name.removeprefix("BACKEND_").lower(): value
        for name, value in environment.items()
        if name.startswith("BACKEND_")
    }
    if unknown := found.keys() - Settings.__dataclass_fields__.keys():
        raise WrongSetting(f"BACKEND_{min(unknown).upper()}: no such setting")
    if len(found.get("jwt_key", "")) < 32:
        raise WrongSetting("BACKEND_JWT_KEY: want a key of 32 characters or more")
    if not found.get("features", Settings.features).startswith(("sqlite:", "redis://", "rediss://")):
        raise WrongSetting(f"BACKEND_FEATURES: want sqlite:FILE or redis://HOST, got '{found['features']}'")
    try:
        numbers = {"timeout_s": float(found.pop("timeout_s", 5.0)), "port": int(found.pop("port", 8080))}
    except ValueError as error:
        raise WrongSetting(f"BACKEND_TIMEOUT_S, BACKEND_PORT: want numbers: {error}") from None
    return Settings(**found, **numbers)  # type: ignore[arg-type]
