"""What each Triton holds and what was decided lately, as a message."""

from __future__ import annotations

import math

from controller.journal import Decision, Journal
from controller.placement.placement import Residency
from controller.placement.policy.popularity import Key
from controller.placement.predictor import Pod
from triptych.protocol import controller_pb2 as cp


def describe(residency: Residency, journal: Journal) -> cp.DescribeReply:
    """Everything at this moment."""
    pods = list(residency.fleet)
    return cp.DescribeReply(
        predictors=[_predictor(residency, pod) for pod in pods],
        residents=[
            _resident(residency, pod, model) for pod in pods for model in sorted({name for name, _ in pod.ready})
        ],
        decisions=[_decision(each) for each in journal.latest],
    )


def _predictor(residency: Residency, pod: Pod) -> cp.Predictor:
    taken, budget = pod.occupied(residency.needs.size_of), residency.moves.budget(pod)
    return cp.Predictor(
        address=pod.address,
        answers=pod.answers,
        used_bytes=taken.bytes,
        budget_bytes=budget.bytes,
        models=taken.models,
        max_models=budget.models,
        loading=residency.moves.loads_on(pod),
    )


def _resident(residency: Residency, pod: Pod, model: str) -> cp.Resident:
    needs, now_s = residency.needs, residency.clock()
    keys: list[Key] = [(model, version) for version in sorted(pod.ready_versions(model))]
    sizes = [needs.size_of(key) for key in keys]
    idle_s = min(needs.usage.idle_s(key, now_s) for key in keys)
    return cp.Resident(
        model=model,
        predictor=pod.address,
        versions=[version for _, version in keys],
        bytes=sum(size.bytes for size in sizes),
        bytes_from=sizes[0].source,
        idle_s=idle_s if math.isfinite(idle_s) else now_s - min(pod.since.get(key, now_s) for key in keys),
        requests_per_s=sum(needs.usage.requests_per_s(key, now_s) for key in keys),
        pinned=any(needs.stays(key) for key in keys),
        copies=max(needs.target(key) for key in keys),
    )


def _decision(decision: Decision) -> cp.Decision:
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
