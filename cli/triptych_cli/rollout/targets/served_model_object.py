"""Rollout target: a ServedModel object in Kubernetes, whose status says what is in force."""

from __future__ import annotations

from collections.abc import Iterable

from controller.kubernetes.api import ApiError, Json, Kind
from controller.kubernetes.blocking import BlockingApi
from triptych_cli.rollout.targets.conditional_writer import ConditionalWriter
from triptych_cli.rollout.targets.target import EffectiveTraffic, TargetError
from triptych_cli.rollout.traffic_split import TrafficSplit


class ServedModelObject:
    """The object of one model in a namespace; `name` is the name of the object, or of a model with one object."""

    def __init__(self, api: BlockingApi, namespace: str, name: str) -> None:
        kind = Kind("triptych.dev", "v1alpha1", namespace, "servedmodels")
        found = _find(api, kind, name)
        own = str(found["metadata"]["name"])
        self.model = str(found["spec"]["model"])
        self.release = str(found["spec"].get("release") or "")
        self.where = f"servedmodel {namespace}/{own}"
        self._api, self._object = api, ConditionalWriter(api, kind, own, self.where, _traffic)

    def read(self) -> TrafficSplit:
        return _traffic(self._object.get())

    def write(self, traffic: TrafficSplit) -> None:
        shares = [{"version": int(version), "percent": percent} for version, percent in traffic.items()]
        self._object.write(traffic, {"traffic": shares})

    def check_version(self, version: str) -> None:
        """Nothing: the controller knows the versions, and the status reports an unknown one."""

    def effective_traffic(self) -> EffectiveTraffic:
        found = self._object.get()
        status = found.get("status", {})
        if status.get("observedGeneration") != found["metadata"]["generation"]:
            return EffectiveTraffic(None, "the controller has not reconciled it yet")
        traffic = _shares(status.get("traffic") or ())
        conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
        if conditions.get("Ready", {}).get("status") == "True":
            return EffectiveTraffic(traffic)
        valid, progress = conditions.get("Valid", {}), conditions.get("Progressing", {})
        if valid.get("status") == "False":
            return EffectiveTraffic(traffic, str(valid.get("message", "")), refused=True)
        return EffectiveTraffic(
            traffic, str(progress.get("message", "")), refused=progress.get("reason") == "LoadFailed"
        )

    def close(self) -> None:
        self._api.close()


def _find(api: BlockingApi, kind: Kind, name: str) -> Json:
    try:
        objects = api.list(kind)
    except ApiError as error:
        raise TargetError(f"the ServedModels of namespace '{kind.namespace}' cannot be listed: {error}") from error
    objects = [each for each in objects if isinstance(each.get("spec"), dict)]  # without a spec it names no model
    about = [each for each in objects if each["metadata"]["name"] == name]
    about = about or [each for each in objects if each["spec"].get("model") == name]
    if len(about) == 1:
        return about[0]
    names = ", ".join(str(each["metadata"]["name"]) for each in about or objects) or "none"
    if about:
        raise TargetError(f"several ServedModels serve '{name}' in namespace '{kind.namespace}': name one of {names}")
    raise TargetError(f"no ServedModel is about '{name}' in namespace '{kind.namespace}'; there are: {names}")


def _traffic(found: Json) -> TrafficSplit:
    """The traffic in the spec. Raises `TargetError` for an object that the CRD's schema would refuse."""
    try:
        return _shares(found["spec"]["traffic"])
    except (KeyError, TypeError, ValueError):
        name = found["metadata"]["name"]
        raise TargetError(f"servedmodel {name}: spec.traffic is no list of versions and percents; mend it") from None


def _shares(shares: Iterable[Json]) -> TrafficSplit:
    return {str(share["version"]): int(share["percent"]) for share in shares}
