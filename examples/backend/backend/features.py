"""Features of an article: 28 days of sales, and the prices and promotions of the next 7."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from aiohttp import ClientError, ClientSession, ClientTimeout

SCHEMA = """
CREATE TABLE IF NOT EXISTS features (
  country TEXT, article TEXT, features TEXT NOT NULL, PRIMARY KEY (country, article)
)"""
NAMES = ("history", "price", "promotion")
TIMEOUT_S = 1.0
LARGEST = 1e38  # that FP32 has

Features = dict[str, list[Any]]  # by NAMES
Articles = Mapping[str, Mapping[str, Features]]  # by country and article


class StoreAway(Exception):
    """The store gave no answer; the text says which store, and why."""


def read_features(text: str | bytes, country: str, article: str) -> Features:
    """The features of a store's JSON. Raises `StoreAway` if they are none."""
    try:
        return checked(json.loads(text), country, article)
    except (ValueError, RecursionError):
        raise StoreAway(f"the features of '{article}' in {country} are no JSON") from None


def checked(found: Any, country: str, article: str) -> Features:
    """The same features. Raises `StoreAway` unless each is a list of numbers."""
    values = [found.get(name) for name in NAMES] if isinstance(found, dict) else [None]
    if not all(
        isinstance(each, list) and all(isinstance(one, int | float) and abs(one) < LARGEST for one in each)
        for each in values
    ):
        raise StoreAway(
            f"the features of '{article}' in {country} are wrong: want lists of numbers: {', '.join(NAMES)}"
        )
    return {name: found[name] for name in NAMES}


class FeatureStore(Protocol):
    """Another store is another class with these two methods. `get` raises `StoreAway`."""

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
        return read_features(row[0], country, article) if row else None

    async def close(self) -> None:
        self._connection.close()


class Redis:
    """JSON under `features:COUNTRY:ARTICLE`."""

    def __init__(self, url: str) -> None:
        from redis.asyncio import Redis as Client  # only where it is used: 0.1 s

        self._client = Client.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)

    async def get(self, country: str, article: str) -> Features | None:
        from redis.exceptions import RedisError

        try:
            text = await self._client.get(f"features:{country}:{article}")
        except RedisError as error:
            raise StoreAway(f"Redis does not answer: {error}") from error
        return read_features(text, country, article) if text else None

    async def close(self) -> None:
        await self._client.aclose()


class Feast:
    """Feast's own feature server (`feast serve`) over HTTP; a feature service there has the three features.

    Its Python client would bring 50 packages, pandas and pyarrow among them.
    """

    def __init__(self, url: str) -> None:
        """`url` ends with the name of the feature service."""
        self._url, _, self._service = url.rpartition("/")
        self._session = ClientSession(timeout=ClientTimeout(total=TIMEOUT_S))

    async def get(self, country: str, article: str) -> Features | None:
        asked = {"feature_service": self._service, "entities": {"country": [country], "article": [article]}}
        try:
            async with self._session.post(f"{self._url}/get-online-features", json=asked) as response:
                if response.status != 200:
                    text = (await response.text())[:200]
                    raise StoreAway(f"Feast at {self._url} answers {response.status}: {text}")
                answer = await response.json()
        except (ClientError, TimeoutError, ValueError) as error:
            raise StoreAway(f"Feast at {self._url} does not answer: {str(error) or 'too late'}") from error
        try:
            features = self._read(answer)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise StoreAway(f"Feast at {self._url} answers in another form: {type(error).__name__}") from error
        return None if features is None else checked(features, country, article)

    def _read(self, answer: Any) -> Features | None:
        columns = dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))
        if missing := [name for name in NAMES if name not in columns]:
            raise StoreAway(f"feature service '{self._service}' of {self._url} has no feature '{missing[0]}'")
        if any(columns[name]["statuses"] != ["PRESENT"] for name in NAMES):
            return None
        return {name: columns[name]["values"][0] for name in NAMES}

    async def close(self) -> None:
        await self._session.close()


def read_articles(file: str) -> Articles:
    """A JSON file of features by country and article. Raises `OSError`, `ValueError`."""
    found = json.loads(Path(file).read_text("utf-8"))
    for country, articles in found.items():
        for article, features in articles.items():
            if set(features) != set(NAMES):
                raise ValueError(f"{country}/{article}: want {', '.join(NAMES)}, got {', '.join(features)}")
    articles_by_country: Articles = found
    return articles_by_country


def open_store(place: str, articles: Articles) -> FeatureStore:
    """`sqlite:FILE`, with these articles put into it, or the URL of another store."""
    if place.startswith("feast+"):
        return Feast(place.removeprefix("feast+"))
    if not place.startswith("sqlite:"):
        return Redis(place)
    store = Sqlite(place.removeprefix("sqlite:"))
    for country, known in articles.items():
        for article, features in known.items():
            store.put(country, article, features)
    return store
