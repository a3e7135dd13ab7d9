"""What is known of an article: 28 days of sales, and the prices and promotions of the next 7."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from typing import Any, Protocol

SCHEMA = """
CREATE TABLE IF NOT EXISTS features (
  country TEXT, article TEXT, features TEXT NOT NULL, PRIMARY KEY (country, article)
)"""
Features = dict[str, list[Any]]  # history, price, promotion


class Store(Protocol):
    """Another store, as Feast, is another class with these two methods."""

    async def get(self, country: str, article: str) -> Features | None: ...

    async def close(self) -> None: ...


class Sqlite:
    """Embedded: a file, or `:memory:`."""

    def __init__(self, file: str) -> None:
        self._connection = sqlite3.connect(file, check_same_thread=False)
        self._connection.execute(SCHEMA)
        self._lock = asyncio.Lock()

    def put(self, country: str, article: str, features: Features) -> None:
        row = (country, article, json.dumps(features))
        with self._connection:
            self._connection.execute("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", row)

    async def get(self, country: str, article: str) -> Features | None:
        async with self._lock:
            return await asyncio.to_thread(self._read, country, article)

    def _read(self, country: str, article: str) -> Features | None:
        query = "SELECT features FROM features WHERE country = ? AND article = ?"
        row = self._connection.execute(query, (country, article)).fetchone()
        return json.loads(row[0]) if row else None

    async def close(self) -> None:
        self._connection.close()


class Redis:
    """JSON under `features:COUNTRY:ARTICLE`."""

    def __init__(self, url: str) -> None:
        from redis.asyncio import Redis as Client  # only where it is used

        self._client = Client.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0)

    async def get(self, country: str, article: str) -> Features | None:
        text = await self._client.get(f"features:{country}:{article}")
        return json.loads(text) if text else None

    async def close(self) -> None:
        await self._client.aclose()


def open_store(place: str) -> Store:
    """`sqlite:FILE` or a URL of Redis."""
    return Sqlite(place.removeprefix("sqlite:")) if place.startswith("sqlite:") else Redis(place)
