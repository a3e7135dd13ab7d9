"""Rollout target: a component of a KServe InferenceService in Knative mode, which KServe splits between two revisions.

The new revision has to be applied with `canaryTrafficPercent: 0`, or it has all the traffic at once. The share of the
newest revision is that field. Without the field it has all the traffic, and no revision to roll back to.
"""

from __future__ import annotations

from collections import Counter

from controller.kubernetes.api import Json, Kind
from controller.kubernetes.blocking import BlockingApi
from triptych_cli.rollout.targets.conditional_writer import ConditionalWriter, read
from triptych_cli.rollout.targets.target import ConcurrentChange, EffectiveTraffic, TargetError
from triptych_cli.rollout.traffic_split import TrafficSplit

FIELD = "canaryTrafficPercent"
KNATIVE = ("Knative", "Serverless")


class InferenceServiceTarget:
    """One component; `new` and `old` are the names of its two revisions."""

    def __init__(self, api: BlockingApi, namespace: str, name: str, component: str) -> None:
        self._api, self._component = api, component
        self.where = f"inferenceservice {namespace}/{name}, {component}"
        kind = Kind("serving.kserve.io", "v1beta1", namespace, "inferenceservices")
        found = read(api, kind, name, self.where)
        status = self._status(found)
        self.new = str(status.get("latestCreatedRevision", ""))
        self.old = str(status.get("latestRolledoutRevision", ""))
        self._check_split(found)
        self._object = ConditionalWriter(api, kind, name, self.where, self._traffic)

    def read(self) -> TrafficSplit:
        return self._traffic(self._object.get())

    def write(self, traffic: TrafficSplit) -> None:
        """Write the share of the new revision.

        A promotion leaves 100. If it removed the field, the next server-side apply of a manifest with 0 would add it
        without a conflict, and KServe would go back to the old revision.
        """
        self._object.write(traffic, {self._component: {FIELD: traffic[self.new]}})

    def check_version(self, version: str) -> None:
        """Nothing: the new revision was read from the object."""

    def effective_traffic(self) -> EffectiveTraffic:
        found = self._object.get()
        status = self._status(found)
        if found["status"].get("observedGeneration", 0) < found["metadata"]["generation"]:
            return EffectiveTraffic(None, "KServe has not reconciled it yet")
        traffic: Counter[str] = Counter()
        for part in status.get("traffic", ()):
            traffic[str(part["revisionName"])] += int(part.get("percent") or 0)
        return EffectiveTraffic(dict(traffic), self._reason(found, status))

    def close(self) -> None:
        self._api.close()

    def _check_split(self, found: Json) -> None:
        mode = found.get("status", {}).get("deploymentMode", KNATIVE[0])
        if mode not in KNATIVE:
            text = f"{self.where} is in {mode} mode, where KServe ignores {FIELD}"
            raise TargetError(f"{text}: split by a weighted GRPCRoute instead")
        if not self.new or self.new == self.old or self._share(found) is None:
            text = f"{self.where} has no revision that waits for its share; apply the new one with {FIELD}: 0"
            raise TargetError(f"{text}, or it has all the traffic at once")

    def _reason(self, found: Json, status: Json) -> str:
        """KServe's reason why the newest revision takes no traffic."""
        if status.get("latestReadyRevision") == self.new:
            return ""
        conditions = found["status"].get("conditions", ())
        texts = [f"{each['type']}: {each['message']}" for each in conditions if each.get("message")]
        return "; ".join(texts) or "it is starting"

    def _traffic(self, found: Json) -> TrafficSplit:
        latest = self._status(found).get("latestCreatedRevision", self.new)
        if latest != self.new:
            raise ConcurrentChange(f"{self.where} has a newer revision, {latest}; it is left as it is")
        share = self._share(found)
        return {self.new: 100} if share is None else {self.old: 100 - share, self.new: share}

    def _share(self, found: Json) -> int | None:
        share = found["spec"].get(self._component, {}).get(FIELD)
        return None if share is None else int(share)

    def _status(self, found: Json) -> Json:
        status: Json = found.get("status", {}).get("components", {}).get(self._component, {})
        return status
