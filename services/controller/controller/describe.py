"""The predictors with their versions, and the recent decisions, as a message."""

from __future__ import annotations

import math

from controller.journal import Journal, PlacementDecision
from controller.placement.placement import Placement
from controller.placement.policy.popularity import VersionKey
from controller.placement.predictors.predictor import Predictor
from controller.placement.state import State
from triptych.protocol import controller_pb2 as cp


def describe(placement: Placement, journal: Journal, store: cp.Store) -> cp.DescribeReply:
    """Everything at this moment."""
    state, predictors = placement.state, list(placement.fleet)
    return cp.DescribeReply(
        predictors=[_predictor(state, each) for each in predictors],
        loaded_models=[
            _loaded_model(state, each, model)
            for each in predictors
            for model in sorted({name for name, _ in each.ready})
        ],
        decisions=[_decision(each) for each in journal.latest],
        store=store,
    )


def _predictor(state: State, predictor: Predictor) -> cp.Predictor:
    taken, budget = state.taken(predictor), state.budget(predictor)
    return cp.Predictor(
        address=predictor.address,
        answers=predictor.available,
        used_bytes=taken.bytes,
        budget_bytes=budget.bytes,
        models=taken.models,
        max_models=budget.models,
        loading=state.in_progress.loads_on[predictor.address],
    )


def _loaded_model(state: State, predictor: Predictor, model: str) -> cp.LoadedModel:
    now_s = state.now_s
    keys: list[VersionKey] = [(model, version) for version in sorted(predictor.ready_versions(model))]
    sizes = [state.versions.size_of(key) for key in keys]
    idle_s = min(state.popularity.idle_s(key, now_s) for key in keys)
    ready_s = now_s - min(predictor.ready_since.get(key, now_s) for key in keys)
    return cp.LoadedModel(
        model=model,
        predictor=predictor.address,
        versions=[version for _, version in keys],
        bytes=sum(size.bytes for size in sizes),
        bytes_from=sizes[0].source,
        idle_s=idle_s if math.isfinite(idle_s) else ready_s,
        requests_per_s=sum(state.popularity.requests_per_s(key, now_s) for key in keys),
        pinned=any(state.desired.minimum(key) for key in keys),
        desired_replicas=max(state.desired.target(key) for key in keys),
    )


def _decision(decision: PlacementDecision) -> cp.Decision:
    version = f" version {decision.version}" if decision.version else ""
    return cp.Decision(
        time_s=decision.time_s,
        action=decision.action,
        model=f"{decision.model}{version}",
        predictor=decision.predictor,
        reason=decision.reason,
        seconds=decision.seconds,
        outcome=decision.outcome,
    )
