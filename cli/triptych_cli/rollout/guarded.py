"""A part of an object in Kubernetes that is changed only while it is what was read or written here last."""

from __future__ import annotations

import time
from collections.abc import Callable

from controller.kubernetes.api import ApiConflict, ApiError, Json, Kind
from controller.kubernetes.blocking import BlockingApi
from triptych_cli.rollout.plan import Traffic, spell
from triptych_cli.rollout.target import ChangedByOther, TargetError

TRIES = 5  # the status changes often, and each change is a new revision of the object
PAUSE_S = 0.2


class Guarded:
    """The traffic in the spec of one object; `traffic_of` finds it there."""

    def __init__(
        self, api: BlockingApi, kind: Kind, name: str, where: str, traffic_of: Callable[[Json], Traffic]
    ) -> None:
        self._api, self._kind, self._name, self.where, self._traffic_of = api, kind, name, where, traffic_of
        self._mine = [traffic_of(self.get())]  # two when a write was interrupted: either may be there

    def get(self) -> Json:
        """The object as it is now. Raises `TargetError`."""
        return read(self._api, self._kind, self._name, self.where)

    def write(self, traffic: Traffic, spec: Json) -> None:
        """Merges `spec`, which means this traffic. Raises `TargetError`, `ChangedByOther` among them."""
        for _ in range(TRIES):
            current = self.get()
            if (found := self._traffic_of(current)) not in self._mine:
                who = f"{self.where} was changed by someone else"
                raise ChangedByOther(f"{who}, to {spell(found)}; it is left as it is")
            self._mine = [found, dict(traffic)]
            try:
                revision = {"resourceVersion": current["metadata"]["resourceVersion"]}
                self._api.patch(self._kind, self._name, {"metadata": revision, "spec": spec})
            except ApiConflict:
                time.sleep(PAUSE_S)
                continue
            except ApiError as error:
                raise TargetError(f"{self.where} cannot be written: {error}") from error
            self._mine = [dict(traffic)]
            return
        raise TargetError(f"{self.where} changed {TRIES} times while it was to be written; try again")


def read(api: BlockingApi, kind: Kind, name: str, where: str) -> Json:
    """One object. Raises `TargetError`."""
    try:
        return api.get(kind, name)
    except ApiError as error:
        raise TargetError(f"{where} cannot be read: {error}") from error
