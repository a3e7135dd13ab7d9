"""Paths of the page. It changes nothing: its only form sends one request to preprocess."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from controller.catalog.entities import Model, Version
from controller.page.form import Typed, WrongForm, fields_of
from controller.page.samples import SampleCall
from controller.page.trial import Trial, Trials
from controller.page.views import StepRow, Views, answer_rows, steps_of
from triptych.errors import TriptychError, is_version
from triptych.protocol import controller_pb2 as cp

MAX_FIELDS: Final = 100
MAX_TEXT_BYTES: Final = 1 << 20  # of a field: JSON of 16 MiB held Python's lock for 0.4 s, and took 160 MiB
UPLOAD_S: Final = 60.0
MAX_FILES: Final = 64
HEADERS: Final = {
    # Nothing is loaded from elsewhere, no script runs, and no other site shows the page in a frame.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class PageApp:
    """The ASGI application `app`.

    hosts: names under which browsers may reach it; other names are those of an attacker (DNS rebinding).
    preprocess: the address that the calls to be copied name.
    max_bytes: largest form with its files.
    """

    def __init__(
        self,
        views: Views,
        trials: Trials,
        store: Callable[[], cp.Store],
        *,
        hosts: list[str],
        preprocess: str,
        max_bytes: int,
    ) -> None:
        self._views, self._trials, self._store = views, trials, store
        self._preprocess, self._max_bytes = preprocess, max_bytes
        self._reading = asyncio.Lock()  # one form is in memory at a time
        loader = PackageLoader("controller.page")
        self._templates = Environment(loader=loader, autoescape=select_autoescape(), undefined=StrictUndefined)
        self._templates.trim_blocks = self._templates.lstrip_blocks = True  # no empty lines for template tags
        self._style = self._templates.get_template("style.css").render()
        routes = [
            Route("/", self._overview),
            Route("/style.css", self._stylesheet),
            Route("/models/{model}", self._model),
            Route("/models/{model}/versions/{version}", self._form),
            Route("/models/{model}/versions/{version}", self._try, methods=["POST"]),
        ]
        middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)]
        self.app = Starlette(routes=routes, middleware=middleware, exception_handlers={HTTPException: self._refuse})

    async def _overview(self, request: Request) -> Response:
        search = request.query_params.get("search", "")[:256]
        return self._html("overview.html", **self._views.overview(self._store(), search))

    async def _stylesheet(self, _request: Request) -> Response:
        return Response(self._style, media_type="text/css", headers=HEADERS)

    async def _model(self, request: Request) -> Response:
        name = request.path_params["model"]
        model, refusals = self._views.catalog.models.get(name), self._views.refusals(name)
        if model is None and not refusals:
            raise HTTPException(404, f"there is no model '{name}'")
        row = self._views.model(model) if model else None
        return self._html("model.html", name=name, model=row, refusals=refusals)

    async def _form(self, request: Request) -> Response:
        model, version = self._version(request)
        return self._shown(model, version)

    async def _try(self, request: Request) -> Response:
        self._check_origin(request)
        model, version = self._version(request)
        async with self._reading:
            try:
                async with asyncio.timeout(UPLOAD_S):
                    typed = await self._typed(request)
            except TimeoutError:
                raise HTTPException(408, f"the form did not arrive within {UPLOAD_S:g} s") from None
            return await self._tried(model, version, typed)

    async def _tried(self, model: Model, version: Version, typed: Typed) -> Response:
        try:
            trial = await self._trials.run(model.name, version.number, typed)
            steps = await asyncio.to_thread(lambda: list(steps_of(trial.moments)))
        except (TriptychError, WrongForm) as error:
            return self._shown(model, version, typed, error=str(error), status=400)
        return self._shown(model, version, typed, trial, steps)

    def _shown(
        self,
        model: Model,
        version: Version,
        typed: Typed | None = None,
        trial: Trial | None = None,
        steps: Sequence[StepRow] = (),
        error: str = "",
        status: int = 200,
    ) -> Response:
        contract, calls = version.contract, []
        if trial is not None:
            target = (self._preprocess, model.name, version.number)
            call = SampleCall(*target, contract, trial.inputs, trial.parameters)
            calls = [("Python", call.python()), ("grpcurl", call.grpcurl())]
        return self._html(
            "try.html",
            status,
            model=self._views.model(model),
            number=version.number,
            fields=fields_of(contract, typed),
            trial=trial,
            answer=answer_rows(trial.answer) if trial else [],
            steps=steps,
            calls=calls,
            contract=json.dumps(json.loads(version.canonical), indent=2, ensure_ascii=False),
            error=error,
        )

    def _version(self, request: Request) -> tuple[Model, Version]:
        name, version = request.path_params["model"], request.path_params["version"]
        model = self._views.catalog.models.get(name)
        if model is None or not is_version(version) or int(version) not in model.versions:
            raise HTTPException(404, f"there is no model '{name}' with a version {version} that may be served")
        return model, model.versions[int(version)]

    def _check_origin(self, request: Request) -> None:
        """Raises `HTTPException` for a form of another site, which would send requests in a visitor's name."""
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            raise HTTPException(403, "the form of another site")

    async def _typed(self, request: Request) -> Typed:
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > self._max_bytes:
            limit = f"{self._max_bytes} bytes, as CONTROLLER_PAGE_MAX_BYTES says"
            raise HTTPException(413, f"want a form of at most {limit}")
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise HTTPException(415, "want multipart/form-data, as the form sends it")
        texts, files = dict[str, str](), dict[str, list[bytes]]()
        async with request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=MAX_TEXT_BYTES) as form:
            for name, value in form.multi_items():
                if isinstance(value, str):
                    texts[name] = value
                elif isinstance(value, UploadFile) and value.size:
                    files.setdefault(name, []).append(await value.read())
        return Typed(texts, files)

    async def _refuse(self, _request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return self._html("refused.html", error.status_code, error=error.detail)

    def _html(self, template: str, status: int = 200, **values: Any) -> Response:
        return HTMLResponse(self._templates.get_template(template).render(values), status, HEADERS)
