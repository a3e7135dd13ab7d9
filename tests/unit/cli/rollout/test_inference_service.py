"""Rollout of the newest revision of an InferenceService: what is read and written."""

from __future__ import annotations

import copy
from typing import Any, cast

from controller.kubernetes.api import Json, Kind
from controller.kubernetes.blocking import BlockingApi
from triptych_cli.rollout.targets.inference_service import FIELD, InferenceServiceTarget

REVISIONS = {"latestCreatedRevision": "entry-2", "latestRolledoutRevision": "entry-1", "latestReadyRevision": "entry-2"}


class Cluster:
    """One InferenceService, to which merge patches of its predictor are applied."""

    def __init__(self, share: int) -> None:
        self.found: Json = {
            "metadata": {"name": "entry", "resourceVersion": "1", "generation": 1},
            "spec": {"predictor": {FIELD: share}},
            "status": {"components": {"predictor": REVISIONS}, "observedGeneration": 1},
        }

    def get(self, kind: Kind, name: str) -> Json:
        return copy.deepcopy(self.found)

    def patch(self, kind: Kind, name: str, body: Json) -> Json:
        self.found["spec"]["predictor"] |= body["spec"]["predictor"]
        return self.found


def target(share: int) -> tuple[Cluster, InferenceServiceTarget]:
    cluster: Any = Cluster(share)
    return cluster, InferenceServiceTarget(cast(BlockingApi, cluster), "here", "entry", "predictor")


def test_the_share_of_the_newest_revision_is_the_field() -> None:
    cluster, entry = target(0)
    assert entry.read() == {"entry-1": 100, "entry-2": 0}
    entry.write({"entry-1": 70, "entry-2": 30})
    assert cluster.found["spec"]["predictor"] == {FIELD: 30}
    assert entry.read() == {"entry-1": 70, "entry-2": 30}


def test_a_promotion_leaves_the_field_at_100_so_that_no_apply_adds_a_0_unnoticed() -> None:
    cluster, entry = target(30)
    entry.write({"entry-1": 0, "entry-2": 100})
    entry.write({"entry-2": 100})
    assert cluster.found["spec"]["predictor"] == {FIELD: 100}
