"""The HTTP server of `RestApp`."""

from __future__ import annotations

from preprocess.rest.app import RestApp
from preprocess.settings import Settings
from triptych.runtime.tls import server_context
from triptych.server.http1 import HttpOptions, HttpServer
from triptych.server.inference_servicer import InferenceServicer


def rest_server(settings: Settings, servicer: InferenceServicer) -> HttpServer:
    """The server of the HTTP form, with the certificate of gRPC. Raises `OSError` for one that cannot be used."""
    options = HttpOptions.of(
        settings,
        "rest",
        "PREPROCESS_REST_PORT",
        host=settings.host,
        port=settings.rest_port,
        max_connections=settings.rest_max_connections,
        tls=server_context(settings, alpn="http/1.1"),
    )
    return HttpServer(RestApp(settings, servicer).app, options)
