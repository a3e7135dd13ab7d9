"""Publishes the state of every model: the catalog, the decision of the traffic gate, and the ready predictors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set

from controller.catalog.entities import Catalog, Model
from controller.journal import Journal
from controller.placement.placement import Placement
from controller.traffic.gate import TrafficDecision, TrafficGate
from controller.traffic.model_state import ModelState
from controller.traffic.split import format_split
from controller.traffic.watch_hub import WatchHub
from triptych.errors import MAX_GOT, clipped
from triptych.protocol import controller_pb2 as cp

Refusals = Sequence[cp.Refused]  # of one model


class Publisher:
    """Publishes to the watch hub after a new catalog, and after a version was loaded, unloaded or failed."""

    def __init__(self, watch_hub: WatchHub, journal: Journal) -> None:
        self._watch_hub, self._journal = watch_hub, journal
        self._gate = TrafficGate()
        self._catalog = Catalog()
        self._refused: Mapping[str, Refusals] = {}
        self._traffic: dict[str, TrafficDecision] = {}
        self._placement: Placement | None = None
        self._listeners: list[Callable[[set[str]], None]] = []
        self._unpublished: set[str] = set()  # models that a catalog changed or removed, until that is published

    def attach(self, placement: Placement) -> None:
        """Set the placement, which calls `models_changed`."""
        self._placement = placement

    def add_listener(self, listener: Callable[[set[str]], None]) -> None:
        """Call `listener` with the names of models whose state changed."""
        self._listeners.append(listener)

    def set_catalog(self, catalog: Catalog) -> None:
        """Take a new catalog, and publish the models that changed."""
        before, self._catalog = self._catalog, catalog
        gone = before.models.keys() - catalog.models.keys()
        if gone:
            self._gate.prune(catalog.models)
        self._watch_hub.catalog = catalog
        if self._placement is not None:
            self._placement.set_catalog(catalog)
        for name in gone:
            self._traffic.pop(name, None)
        self._unpublished.update(gone)
        self._unpublished.update(name for name, model in catalog.models.items() if before.models.get(name) is not model)
        if before.invalid != catalog.invalid or before.edits != catalog.edits:
            before_refused, self._refused = self._refused, _refused(catalog)
            names = before_refused.keys() | self._refused.keys()
            self._unpublished.update(name for name in names if before_refused.get(name) != self._refused.get(name))
        unpublished = self._unpublished
        self._publish(unpublished & catalog.models.keys(), unpublished - catalog.models.keys())
        self._unpublished = set()

    def models_changed(self, names: set[str]) -> None:
        """Publish these models: versions were loaded, unloaded or failed to load."""
        self._publish(names & self._catalog.models.keys(), frozenset())

    def versions(self, name: str) -> frozenset[int]:
        """Versions of a model that have traffic now."""
        traffic = self._traffic.get(name)
        return (
            frozenset(version for version, percent in traffic.in_force.items() if percent) if traffic else frozenset()
        )

    def model_state(self, name: str) -> ModelState | None:
        """The state of one model; None if it is not served."""
        model = self._catalog.models.get(name)
        if model is None or self._placement is None:
            return None
        traffic = self._traffic[name]
        return ModelState(
            traffic=traffic.in_force,
            ready=self._placement.fleet.ready_addresses(name),
            failures=self._placement.last_failures(name, model.versions),
            held_back=traffic.held_back,
            desired_replicas=max((self._placement.target((name, version)) for version in model.versions), default=0),
            failing=self._placement.failing(name, model.versions),
            trying=self._placement.trying(name, model.versions),
        )

    def _publish(self, changed: Iterable[str], not_served: Set[str]) -> None:
        """Publish models that are served, and models that are not or not any more."""
        messages = {name: self._message(self._catalog.models[name]) for name in changed}
        refused = {name: found for name in (*messages, *not_served) if (found := self._refused.get(name))}
        self._watch_hub.publish(messages, not_served - refused.keys(), refused)
        for listener in self._listeners:
            listener({*messages, *not_served})

    def _message(self, model: Model) -> cp.Model:
        ready: Mapping[int, tuple[str, ...]] = {}
        failures: Mapping[int, str] = {}
        if self._placement is not None:
            ready = self._placement.fleet.ready_addresses(model.name)
            failures = self._placement.failures(model.name, model.versions)
        before, now = self._traffic.get(model.name), self._gate.decide(model, ready, failures)
        self._traffic[model.name] = now
        if self._placement is not None:
            self._placement.serve(model.name, _active(now.in_force), now.to_prove)
        if before is not None and before.in_force != now.in_force:
            change = " to ".join(format_split(_active(each.in_force)) for each in (before, now))
            self._journal.write("traffic", model.name, reason=change)
        versions = [
            cp.Version(version=number, percent=now.in_force.get(number, 0), predictors=ready.get(number, ()))
            for number in sorted(model.versions)
        ]
        return cp.Model(
            name=model.name, family=model.family, route=model.route, versions=versions, aliases=model.aliases
        )


def _refused(catalog: Catalog) -> dict[str, list[cp.Refused]]:
    """Reasons why models, versions and edits are not served, short enough for an error message."""
    refused: defaultdict[str, list[cp.Refused]] = defaultdict(list)
    for (name, version), reason in catalog.invalid.items():
        refused[name].append(cp.Refused(model=name, version=version or 0, reason=clipped(reason, MAX_GOT)))
    for name, edits in catalog.edits.items():
        for edit in edits:
            if edit.family:
                reason, version = clipped(edit.text, MAX_GOT), edit.version or 0
                refused[name].append(
                    cp.Refused(model=name, version=version, reason=reason, family=edit.family, route=edit.route)
                )
    return refused


def _active(shares: Mapping[int, int]) -> dict[int, int]:
    """Shares of the versions with traffic."""
    return {version: percent for version, percent in shares.items() if percent}
