"""The server: GET /forecasts/COUNTRY/ARTICLE for callers with a token."""

from __future__ import annotations

from collections.abc import AsyncIterator

import jwt
from aiohttp import web
from aiohttp.typedefs import Handler

from backend.connections import AGAIN, OPEN, Connections
from backend.features import Articles, FeatureStore, StoreAway, open_store, read_articles
from backend.forecast_client import ForecastClient, ForecastError, credentials
from backend.settings import Settings, WrongSetting

SETTINGS = web.AppKey("settings", Settings)
STORE: web.AppKey[FeatureStore] = web.AppKey("store")
CLIENT = web.AppKey("client", ForecastClient)
CONNECTIONS = web.AppKey("connections", Connections)
MAX_NAME = 128


def build(settings: Settings) -> web.Application:
    """Raises `WrongSetting`."""
    connections = Connections(settings.max_connections)
    app = web.Application(middlewares=[connections.middleware(), authenticate])
    app[SETTINGS], app[CONNECTIONS] = settings, connections
    app.add_routes([web.get(path, well) for path in OPEN])
    app.add_routes([web.get("/forecasts/{country}/{article}", forecast)])

    articles = _articles(settings.articles)
    try:
        shown = credentials(settings.preprocess_ca, settings.preprocess_cert, settings.preprocess_key)
    except OSError as error:
        raise WrongSetting(f"BACKEND_PREPROCESS_CA, _CERT and _KEY name files: {error}") from error

    async def parts(app: web.Application) -> AsyncIterator[None]:
        app[STORE] = open_store(settings.features, articles)
        app[CLIENT] = ForecastClient(settings.preprocess, settings.timeout_s, shown)
        yield
        await app[CLIENT].close()
        await app[STORE].close()

    app.cleanup_ctx.append(parts)
    return app


def _articles(file: str) -> Articles:
    try:
        return read_articles(file) if file else {}
    except (OSError, ValueError) as error:
        raise WrongSetting(f"BACKEND_ARTICLES: {file}: {error}") from error


@web.middleware
async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """401 without a token of ours that is still good."""
    if request.path not in OPEN:
        settings = request.app[SETTINGS]
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        must = {"require": ["exp", "sub"]}
        try:
            if scheme.lower() != "bearer" or not token.isascii():
                raise jwt.InvalidTokenError("want Authorization: Bearer TOKEN, in ASCII")
            jwt.decode(token, settings.jwt_key, algorithms=["HS256"], audience=settings.jwt_audience, options=must)
        except jwt.InvalidTokenError as error:
            headers = {"WWW-Authenticate": "Bearer"}
            return web.json_response({"error": str(error)}, status=401, headers=headers)
    return await handler(request)


async def forecast(request: web.Request) -> web.Response:
    country, article = request.match_info["country"], request.match_info["article"]
    if ":" in country or max(len(country), len(article)) > MAX_NAME:  # stores have keys of COUNTRY:ARTICLE
        text = f"want a country without ':' and an article, each of at most {MAX_NAME} characters"
        return web.json_response({"error": text}, status=404)
    try:
        features = await request.app[STORE].get(country, article)
    except StoreAway as error:
        return web.json_response({"error": str(error)}, status=503, headers=AGAIN)
    if features is None:
        return web.json_response({"error": f"article '{article}' is not known in {country}"}, status=404)
    trace = request.headers.get("traceparent", "")
    try:
        found = await request.app[CLIENT].forecast(country, article, features, trace)
    except ForecastError as error:
        headers = AGAIN if error.status == 503 else {}
        return web.json_response({"error": str(error)}, status=error.status, headers=headers)
    return web.json_response({"units": found.units, "model": found.model, "version": found.version})


async def well(request: web.Request) -> web.Response:
    """Health of this process alone. Triptych is not asked: all replicas share it, so removing one would help nobody."""
    return web.json_response({})
