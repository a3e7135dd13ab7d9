"""A ServedModel object in Kubernetes; its status says what is in force."""

from __future__ import annotations

from collections.abc import Iterable

from controller.kubernetes.api import ApiError, Json, Kind
from controller.kubernetes.blocking import BlockingApi
from triptych_cli.rollout.guarded import Guarded
from triptych_cli.rollout.plan import Traffic
from triptych_cli.rollout.target import InForce, TargetError


class ServedModelObject:
    """The one object about a model in a namespace; `name` is its own name or that of the model."""

    def __init__(self, api: BlockingApi, namespace: str, name: str) -> None:
        kind = Kind("triptych.dev", "v1alpha1", namespace, "servedmodels")
        found = _find(api, kind, name)
        own = str(found["metadata"]["name"])
        self.model = str(found["spec"]["model"])
        self.where = f"servedmodel {namespace}/{own}"
        self._api, self._object = api, Guarded(api, kind, own, self.where, _traffic)

    def read(self) -> Traffic:
        return _traffic(self._object.get())

    def write(self, traffic: Traffic) -> None:
        shares = [{"version": int(version), "percent": percent} for version, percent in traffic.items()]
        self._object.write(traffic, {"traffic": shares})

    def check(self, version: str) -> None:
        """Which versions there are is known to the controller; its word on this one comes with the status."""

    def in_force(self) -> InForce:
        found = self._object.get()
        status = found.get("status", {})
        if status.get("observedGeneration") != found["metadata"]["generation"]:
            return InForce(None, "the controller has not looked at it yet")
        traffic = _shares(status.get("traffic") or ())
        conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
        if conditions.get("Ready", {}).get("status") == "True":
            return InForce(traffic)
        valid, progress = conditions.get("Valid", {}), conditions.get("Progressing", {})
        if valid.get("status") == "False":
            return InForce(traffic, str(valid.get("message", "")), refused=True)
        return InForce(traffic, str(progress.get("message", "")), refused=progress.get("reason") == "LoadFailed")

    def close(self) -> None:
        self._api.close()


def _find(api: BlockingApi, kind: Kind, name: str) -> Json:
    try:
        objects = api.list(kind)
    except ApiError as error:
        raise TargetError(f"the ServedModels of namespace '{kind.namespace}' cannot be listed: {error}") from error
    objects = [each for each in objects if isinstance(each.get("spec"), dict)]  # the others are about no model
    about = [each for each in objects if name in (each["metadata"]["name"], each["spec"].get("model"))]
    if len(about) == 1:
        return about[0]
    names = ", ".join(str(each["metadata"]["name"]) for each in about or objects) or "none"
    problem = "several ServedModels are" if about else "no ServedModel is"
    raise TargetError(f"{problem} about '{name}' in namespace '{kind.namespace}'; there are: {names}")


def _traffic(found: Json) -> Traffic:
    """Raises `TargetError` for an object that the definition of ServedModel would not let in."""
    try:
        return _shares(found["spec"]["traffic"])
    except (KeyError, TypeError, ValueError):
        name = found["metadata"]["name"]
        raise TargetError(f"servedmodel {name}: spec.traffic is no list of versions and percents; mend it") from None


def _shares(shares: Iterable[Json]) -> Traffic:
    return {str(share["version"]): int(share["percent"]) for share in shares}
