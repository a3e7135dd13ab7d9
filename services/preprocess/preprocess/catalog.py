"""The catalog: models, routes, shares of traffic and placement, as the controller streams them.

If the controller does not answer, the last update stays in force, so loaded models are served on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from preprocess.routing import choose
from triptych.client.upstream import Upstream
from triptych.contract.specs import DEFAULT_ROUTE
from triptych.errors import (
    InvalidParameter,
    RefusedTarget,
    TriptychError,
    Unavailable,
    UnknownModel,
    UnknownRoute,
    UnknownTarget,
    UnknownVersion,
    clipped,
)
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.aliases import ALIAS_PARAMETER, resolve_alias
from triptych.protocol.parameters import Parameter
from triptych.protocol.update_parts import PartJoiner
from triptych.telemetry.failure_log import FailureLog

log = logging.getLogger(__name__)

RECONNECT_S = 0.5
_NO_ALIASES: Final[Mapping[str, int]] = {}


@dataclass(frozen=True, slots=True)
class Target:
    """One version of one model: its share of traffic, and the predictors that have it ready."""

    family: str
    model: str
    version: int
    percent: int
    predictors: tuple[str, ...]


class RoutableModel:
    """A model of the catalog, its versions by their text in a request, and the aliases of some."""

    __slots__ = ("aliases", "family", "name", "route", "split", "targets")

    def __init__(self, message: cp.Model) -> None:
        self.family, self.name, self.route = message.family, message.name, message.route
        self.targets = {str(version.version): _target(message, version) for version in message.versions}
        self.split = tuple(target for target in self.targets.values() if target.percent)
        self.aliases = dict(message.aliases) if message.aliases else _NO_ALIASES

    @property
    def main_version(self) -> int:
        """The version with the largest share of the traffic, of two the newer; the newest if none has a share."""
        return max((target.percent, target.version) for target in self.targets.values())[1]


def _target(model: cp.Model, version: cp.Version) -> Target:
    return Target(model.family, model.name, version.version, version.percent, tuple(version.predictors))


class CatalogClient:
    """Models by name, and by family and route."""

    def __init__(self, controller: Upstream) -> None:
        self._controller = controller
        self._models: dict[str, RoutableModel] = {}
        self._families: dict[str, dict[str, str]] = {}
        self._refused: dict[str, dict[str, str]] = {}  # by model and version; '': the whole model
        self._edited: dict[str, dict[tuple[str, str], str]] = {}  # ignored edits of contracts: by model; family, route
        self._has_arrived = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    @property
    def complete(self) -> bool:
        """Whether the whole catalog has arrived once."""
        return self._has_arrived.is_set()

    async def start(self) -> None:
        """Follows the controller. Returns when the whole catalog has arrived."""
        self._following = asyncio.create_task(self._follow())
        await self._has_arrived.wait()

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following

    def target(self, name: str, version: str, parameters: dict[str, Parameter], request_id: str) -> Target:
        """The model and version that a request names, or is routed to. Raises `UnknownTarget`."""
        model = self.model(name, parameters.get("route"))
        if ALIAS_PARAMETER in parameters:
            if version:
                want = "an alias or a model_version, not both"
                raise InvalidParameter(ALIAS_PARAMETER, want, f"model_version '{clipped(version)}' too")
            return self._aliased(model, parameters[ALIAS_PARAMETER])
        if version:
            return self.version(model, version)
        if not model.split:
            raise Unavailable(f"model '{model.name}' has no version that takes traffic; name one with model_version")
        return choose(model.split, str(parameters.get("traffic_key", "") or request_id))

    def model(self, name: str, route: Parameter | None) -> RoutableModel:
        """The model of that name, or the model of that family for the route. A family of one may need no route."""
        if not self.complete:
            raise Unavailable("preprocess has no catalog from the controller yet; try again")
        model = self._models.get(name)
        if model is not None:
            if route is not None and route != model.route:
                raise InvalidParameter("route", f"'{model.route}', the route of {name}, or none", f"'{route}'")
            return model
        routes = self._families.get(name)
        if routes is None:
            if reasons := self._refused.get(name):
                raise RefusedTarget(f"model '{name}'", reasons.get("") or next(iter(reasons.values())))
            if edit := self._edit(name, route):
                raise RefusedTarget(f"model or family '{name}'", edit)
            raise UnknownModel(name, self._families, self._models)
        if route is None and routes.keys() == {DEFAULT_ROUTE}:
            route = DEFAULT_ROUTE
        if not isinstance(route, str):
            got = "none" if route is None else f"a {type(route).__name__}"
            raise InvalidParameter("route", f"a string that names a model of the family '{name}'", got)
        if route not in routes:
            if edit := self._edit(name, route):
                raise RefusedTarget(f"route '{clipped(route)}' of family '{name}'", edit)
            raise UnknownRoute(name, route, routes)
        return self._models[routes[route]]

    def _edit(self, family: str, route: Parameter | None) -> str:
        """The sentence about a published contract that was edited to this family and route; '' for none."""
        edits = (edit for edits in self._edited.values() for edit in edits.items())
        return next((text for (name, its_route), text in edits if name == family and route in (None, its_route)), "")

    def version(self, model: RoutableModel, version: str) -> Target:
        """The version of that number or alias. Raises `UnknownTarget`."""
        if version in model.targets:
            return model.targets[version]
        if version in model.aliases:
            return self._aliased(model, version)
        raise self._unknown_version(model, version)

    def _aliased(self, model: RoutableModel, alias: Parameter) -> Target:
        """The version that an alias names, whatever its share of the traffic. Raises `UnknownTarget`."""
        version = str(resolve_alias(model.name, alias, model.aliases))
        if version not in model.targets:
            raise UnknownTarget(f"alias '{alias}' names version {version}: {self._unknown_version(model, version)}")
        return model.targets[version]

    def _unknown_version(self, model: RoutableModel, version: str) -> UnknownTarget:
        """The error for a version that the model does not serve."""
        if reason := self._refused.get(model.name, {}).get(version):
            return RefusedTarget(f"version {version} of model '{model.name}'", reason)
        return UnknownVersion(model.name, version, model.targets, model.aliases)

    def sample(self, name: str) -> RoutableModel:
        """The model of that name, or any model of that family: they differ in optional inputs at most."""
        routes = self._families.get(name)
        return self._models[next(iter(routes.values()))] if routes else self.model(name, None)

    def is_family_of_one(self, name: str) -> bool:
        """Whether a name is that of a family with one model."""
        return len(self._families.get(name, ())) == 1

    def apply(self, update: cp.CatalogUpdate) -> None:
        """Replaces the whole catalog, or the models that have changed."""
        if update.full:
            self._models, self._families, self._refused, self._edited = {}, {}, {}, {}
        changed_names = {changed.name for changed in update.models} | {refused.model for refused in update.refused}
        for name in (*update.removed, *changed_names):
            self._forget(name)
        for refused in update.refused:
            if refused.family:
                self._edited.setdefault(refused.model, {})[refused.family, refused.route] = refused.reason
                continue
            version = str(refused.version) if refused.version else ""
            self._refused.setdefault(refused.model, {})[version] = refused.reason
        for changed in update.models:
            self._models[changed.name] = RoutableModel(changed)
            self._families.setdefault(changed.family, {})[changed.route] = changed.name
        self._has_arrived.set()

    def _forget(self, name: str) -> None:
        self._refused.pop(name, None)
        self._edited.pop(name, None)
        model = self._models.pop(name, None)
        if model is None:
            return
        routes = self._families[model.family]
        if routes.get(model.route) == name:
            del routes[model.route]
        if not routes:
            del self._families[model.family]

    async def _follow(self) -> None:
        failures = FailureLog(log)
        while True:
            joiner = PartJoiner()
            try:
                async for part in self._controller.stream("Watch", cp.WatchRequest()):
                    if update := joiner.add(part):
                        self.apply(update)
                        failures.recovered("controller")
                reason = "the stream ended"
            except TriptychError as error:
                reason = str(error)
            except Exception as error:  # the next stream begins with the whole catalog
                log.exception("internal error")
                reason = f"{type(error).__name__}: {error}"
            failures.failed("controller", "controller lost", reason=reason, models_kept=len(self._models))
            await asyncio.sleep(RECONNECT_S * random.uniform(0.5, 1.5))
