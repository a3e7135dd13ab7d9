"""A component of a KServe InferenceService in Knative mode: KServe splits between its newest and its last revision.

The new revision has to be applied with `canaryTrafficPercent: 0`, or it has all the traffic at once. Shares are that
field; its absence is all the traffic for the newest, and nothing to go back to.
"""

from __future__ import annotations

from collections import Counter

from controller.kubernetes.api import Json, Kind
from controller.kubernetes.blocking import BlockingApi
from triptych_cli.rollout.guarded import Guarded, read
from triptych_cli.rollout.plan import Traffic
from triptych_cli.rollout.target import ChangedByOther, InForce, TargetError

FIELD = "canaryTrafficPercent"
KNATIVE = ("Knative", "Serverless")


class InferenceServiceTarget:
    """`new` and `old` are the names of the two revisions."""

    def __init__(self, api: BlockingApi, namespace: str, name: str, component: str) -> None:
        self._api, self._component = api, component
        self.where = f"inferenceservice {namespace}/{name}, {component}"
        kind = Kind("serving.kserve.io", "v1beta1", namespace, "inferenceservices")
        found = read(api, kind, name, self.where)
        status = self._status(found)
        self.new = str(status.get("latestCreatedRevision", ""))
        self.old = str(status.get("latestRolledoutRevision", ""))
        self._check_split(found)
        self._object = Guarded(api, kind, name, self.where, self._traffic)

    def read(self) -> Traffic:
        return self._traffic(self._object.get())

    def write(self, traffic: Traffic) -> None:
        """A split keeps the old revision in it, be it with 0; without it there is nothing to go back to."""
        share = traffic[self.new] if self.old in traffic else None
        self._object.write(traffic, {self._component: {FIELD: share}})

    def check(self, version: str) -> None:
        """The new revision is the one that was found."""

    def in_force(self) -> InForce:
        found = self._object.get()
        status = self._status(found)
        if found["status"].get("observedGeneration", 0) < found["metadata"]["generation"]:
            return InForce(None, "KServe has not looked at it yet")
        traffic: Counter[str] = Counter()
        for part in status.get("traffic", ()):
            traffic[str(part["revisionName"])] += int(part.get("percent") or 0)
        return InForce(dict(traffic), self._reason(found, status))

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
        """Why the newest revision takes no traffic, as KServe tells it."""
        if status.get("latestReadyRevision") == self.new:
            return ""
        conditions = found["status"].get("conditions", ())
        texts = [f"{each['type']}: {each['message']}" for each in conditions if each.get("message")]
        return "; ".join(texts) or "it is starting"

    def _traffic(self, found: Json) -> Traffic:
        latest = self._status(found).get("latestCreatedRevision", self.new)
        if latest != self.new:
            raise ChangedByOther(f"{self.where} has a newer revision, {latest}; it is left as it is")
        share = self._share(found)
        return {self.new: 100} if share is None else {self.old: 100 - share, self.new: share}

    def _share(self, found: Json) -> int | None:
        share = found["spec"].get(self._component, {}).get(FIELD)
        return None if share is None else int(share)

    def _status(self, found: Json) -> Json:
        status: Json = found.get("status", {}).get("components", {}).get(self._component, {})
        return status
