"""The settings, read once from the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STORES = ("sqlite:", "redis://", "rediss://", "feast+http://", "feast+https://")


class WrongSetting(Exception):
    """A setting is missing or wrong; the text names it."""


@dataclass(frozen=True)
class Settings:
    """`BACKEND_*` variables in small letters."""

    jwt_key: str  # HS256, shared with the issuer of the tokens
    jwt_audience: str = "forecasts"
    preprocess: str = "127.0.0.1:9000"  # address; in a cluster dns:///preprocess-pods:9000, for all pods
    preprocess_ca: str = ""  # file (PEM) with the authorities; empty: plaintext
    preprocess_cert: str = ""  # files (PEM) with the own certificate and key, for mutual TLS
    preprocess_key: str = ""
    timeout_s: float = 5.0  # for one request, retries included
    features: str = "sqlite:features.db"  # or redis://host:6379/0, feast+http://host:6566/FEATURE_SERVICE
    articles: str = ""  # a JSON file that is put into the embedded store at the start
    host: str = "127.0.0.1"  # or ::1; :: listens on all addresses, of IPv6 and IPv4
    port: int = 8080
    max_connections: int = 512  # a new one ends the oldest without a request; requests beyond it get 503
    grace_s: float = 20.0  # after SIGTERM, for requests in flight


def read(environment: Mapping[str, str]) -> Settings:
    """Raises `WrongSetting`."""
    found: dict[str, Any] = {
        name.removeprefix("BACKEND_").lower(): value
        for name, value in environment.items()
        if name.startswith("BACKEND_")
    }
    if unknown := found.keys() - Settings.__dataclass_fields__.keys():
        raise WrongSetting(f"BACKEND_{min(unknown).upper()}: no such setting")
    if len(found.get("jwt_key", "")) < 32:
        raise WrongSetting("BACKEND_JWT_KEY: want a key of 32 characters or more")
    for name, number in {"timeout_s": float, "port": int, "max_connections": int, "grace_s": float}.items():
        if name in found:
            found[name] = _number(name, found[name], number)
    settings = Settings(**found)
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    """Raises `WrongSetting` for values that do not fit their setting or each other."""
    if not settings.features.startswith(STORES):
        wanted = "sqlite:FILE, redis://HOST or feast+http://HOST/FEATURE_SERVICE"
        raise WrongSetting(f"BACKEND_FEATURES: want {wanted}, got '{settings.features}'")
    if settings.max_connections < 1:
        raise WrongSetting(f"BACKEND_MAX_CONNECTIONS: want 1 or more, got {settings.max_connections}")
    target = settings.preprocess.removeprefix("dns:///")
    if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^][:/\s]+):[0-9]{1,5}", target):
        wanted = "host:port, dns:///host:port, or [::1]:9000 with an IPv6 address"
        raise WrongSetting(f"BACKEND_PREPROCESS: want {wanted}, got '{settings.preprocess}'")
    if "[" in settings.host:
        raise WrongSetting(f"BACKEND_HOST: want an address without brackets, got '{settings.host}'")
    if bool(settings.preprocess_cert) != bool(settings.preprocess_key) or (
        settings.preprocess_cert and not settings.preprocess_ca
    ):
        raise WrongSetting(
            "BACKEND_PREPROCESS_CERT: want BACKEND_PREPROCESS_KEY and BACKEND_PREPROCESS_CA beside it, or none of them"
        )
    if settings.articles and not settings.features.startswith("sqlite:"):
        raise WrongSetting("BACKEND_ARTICLES: is for the embedded store, and BACKEND_FEATURES names another one")


def _number(name: str, text: str, number: type[int] | type[float]) -> float:
    try:
        return number(text)
    except ValueError:
        raise WrongSetting(f"BACKEND_{name.upper()}: want a number, got '{text}'") from None
