"""Optimistic concurrency: writes the traffic of a Kubernetes object only if nobody else changed it."""

from __future__ import annotations

import time
from collections.abc import Callable

from controller.kubernetes.api import ApiConflict, ApiError, Json, Kind
from controller.kubernetes.blocking import BlockingApi
from triptych_cli.rollout.targets.target import ConcurrentChange, TargetError
from triptych_cli.rollout.traffic_split import TrafficSplit, format_split

ATTEMPTS = 5  # the status changes often, and each change is a new resourceVersion
PAUSE_S = 0.2


class ConditionalWriter:
    """The traffic in the spec of one object; `traffic_of` extracts it."""

    def __init__(
        self, api: BlockingApi, kind: Kind, name: str, where: str, traffic_of: Callable[[Json], TrafficSplit]
    ) -> None:
        self._api, self._kind, self._name, self.where, self._traffic_of = api, kind, name, where, traffic_of
        self._expected = [traffic_of(self.get())]  # two after an interrupted write: either may be there

    def get(self) -> Json:
        """Read the object. Raises `TargetError`."""
        return read(self._api, self._kind, self._name, self.where)

    def write(self, traffic: TrafficSplit, spec: Json) -> None:
        """Merge `spec`, which expresses this traffic. Raises `TargetError`, or its subclass `ConcurrentChange`."""
        for _ in range(ATTEMPTS):
            current = self.get()
            if (found := self._traffic_of(current)) not in self._expected:
                who = f"{self.where} was changed by someone else"
                raise ConcurrentChange(f"{who}, to {format_split(found)}; it is left as it is")
            self._expected = [found, dict(traffic)]
            try:
                revision = {"resourceVersion": current["metadata"]["resourceVersion"]}
                self._api.patch(self._kind, self._name, {"metadata": revision, "spec": spec})
            except ApiConflict:
                time.sleep(PAUSE_S)
                continue
            except ApiError as error:
                raise TargetError(f"{self.where} cannot be written: {error}") from error
            self._expected = [dict(traffic)]
            return
        raise TargetError(f"{self.where} changed {ATTEMPTS} times while it was to be written; try again")


def read(api: BlockingApi, kind: Kind, name: str, where: str) -> Json:
    """Read one object. Raises `TargetError`."""
    try:
        return api.get(kind, name)
    except ApiError as error:
        raise TargetError(f"{where} cannot be read: {error}") from error
