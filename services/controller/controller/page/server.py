"""The server of the page, for the controller to open and close."""

from __future__ import annotations

from collections.abc import Callable

from controller.journal import Journal
from controller.page.app import PageApp
from controller.page.trial import Trials
from controller.page.views import Views
from controller.placement.placement import Placement
from controller.settings import Settings
from controller.traffic.publisher import Publisher
from controller.traffic.watch_hub import WatchHub
from triptych.client.transport import Transport
from triptych.client.upstream import Upstream
from triptych.protocol import controller_pb2 as cp
from triptych.server.http1 import HttpOptions, HttpServer
from triptych.server.inference_servicer import SERVICE

MAX_CONNECTIONS = 32


class PageServer:
    """The page and its connection to preprocess. It speaks plaintext, for one's own machine or a port-forward."""

    def __init__(
        self,
        settings: Settings,
        transport: Transport,
        watch_hub: WatchHub,
        publisher: Publisher,
        placement: Placement,
        journal: Journal,
        store: Callable[[], cp.Store],
    ) -> None:
        address = settings.page_preprocess
        self._preprocess = Upstream.of_stage(settings, "preprocess", address, SERVICE, relays=True, transport=transport)
        app = PageApp(
            Views(watch_hub, publisher, placement, journal),
            Trials(self._preprocess, placement, settings.request_timeout_s),
            store,
            hosts=list(settings.page_hosts),
            preprocess=address,
            max_bytes=settings.page_max_bytes,
        )
        options = HttpOptions.of(
            settings,
            "page",
            "CONTROLLER_PAGE_PORT",
            host=settings.page_host,
            port=settings.page_port,
            max_connections=MAX_CONNECTIONS,
        )
        self._server = HttpServer(app.app, options)

    async def open(self) -> None:
        """Listen and serve. Raises `OSError` with a sentence."""
        await self._server.open()

    async def close(self) -> None:
        """Wait for the requests in progress."""
        await self._server.close()
        await self._preprocess.close()
