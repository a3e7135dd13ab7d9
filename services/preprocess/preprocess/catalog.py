"""What the controller has told about models, routes, traffic and placement: kept up to date by one stream.

When the controller is away the last word stands, so everything resident goes on being served.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from dataclasses import dataclass

from preprocess.routing import choose
from triptych.client.upstream import Upstream
from triptych.errors import (
    InvalidParameter,
    TriptychError,
    Unavailable,
    UnknownModel,
    UnknownRoute,
    UnknownVersion,
)
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.tensors import Parameter

log = logging.getLogger(__name__)

RECONNECT_S = 0.5


@dataclass(frozen=True, slots=True)
class Target:
    """One version of one model, which a request goes to: its share of traffic, and where Triton has it ready."""

    family: str
    model: str
    version: int
    percent: int
    predictors: tuple[str, ...]


class Model:
    """A model of the catalog, in the form that a request needs it."""

    __slots__ = ("family", "name", "route", "split", "targets")

    def __init__(self, told: cp.Model) -> None:
        self.family, self.name, self.route = told.family, told.name, told.route
        self.targets = {str(each.version): _target(told, each) for each in told.versions}
        self.split = tuple(target for target in self.targets.values() if target.percent)


def _target(model: cp.Model, version: cp.Version) -> Target:
    return Target(model.family, model.name, version.version, version.percent, tuple(version.predictors))


class Catalog:
    """The models by name, and the families' routes."""

    def __init__(self, controller: Upstream) -> None:
        self._controller = controller
        self._models: dict[str, Model] = {}
        self._families: dict[str, dict[str, str]] = {}
        self._first = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def complete(self) -> bool:
        """Whether the whole catalog came once."""
        return self._first.is_set()

    async def start(self) -> None:
        """Follows the controller; returns when the whole catalog came once."""
        self._task = asyncio.create_task(self._follow())
        await self._first.wait()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def target(self, name: str, version: str, parameters: dict[str, Parameter], request_id: str) -> Target:
        """The model and version that a request means. Raises the errors of `UnknownTarget`."""
        model = self.model(name, parameters.get("route"))
        if version:
            if version not in model.targets:
                raise UnknownVersion(model.name, version, model.targets)
            return model.targets[version]
        if not model.split:
            raise Unavailable(f"model '{model.name}' has no version that takes traffic; name one with model_version")
        return choose(model.split, str(parameters.get("traffic_key", "") or request_id))

    def model(self, name: str, route: Parameter | None) -> Model:
        """The model of that name, or the member of that family for the route."""
        if not self.complete:
            raise Unavailable("preprocess has not heard from the controller yet; try again")
        model = self._models.get(name)
        if model is not None:
            if route is not None and route != model.route:
                raise InvalidParameter("route", f"'{model.route}', the route of {name}, or none", f"'{route}'")
            return model
        routes = self._families.get(name)
        if routes is None:
            raise UnknownModel(name, [*self._families, *self._models])
        if not isinstance(route, str):
            got = "none" if route is None else f"a {type(route).__name__}"
            raise InvalidParameter("route", f"a string that names a member of the family '{name}'", got)
        if route not in routes:
            raise UnknownRoute(name, route, routes)
        return self._models[routes[route]]

    def sample(self, name: str) -> Model:
        """The model of that name, or any member of that family: they share one signature."""
        routes = self._families.get(name)
        return self._models[next(iter(routes.values()))] if routes else self.model(name, None)

    def apply(self, update: cp.CatalogUpdate) -> None:
        """Takes the controller's word over: all of it, or what has changed."""
        if update.full:
            self._models, self._families = {}, {}
        for name in (*update.removed, *(told.name for told in update.models)):
            self._forget(name)
        for told in update.models:
            self._models[told.name] = Model(told)
            self._families.setdefault(told.family, {})[told.route] = told.name
        self._first.set()

    def _forget(self, name: str) -> None:
        model = self._models.pop(name, None)
        if model is None:
            return
        routes = self._families[model.family]
        if routes.get(model.route) == name:
            del routes[model.route]
        if not routes:
            del self._families[model.family]

    async def _follow(self) -> None:
        following = True
        while True:
            try:
                async for update in self._controller.stream("Watch", cp.WatchRequest()):
                    self.apply(update)
                    following = True
                reason = "the stream ended"
            except TriptychError as error:
                reason = str(error)
            if following:  # said once, not on every attempt
                log.warning("controller lost", extra={"reason": reason, "models_kept": len(self._models)})
            following = False
            await asyncio.sleep(RECONNECT_S * random.uniform(0.5, 1.5))
