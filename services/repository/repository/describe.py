"""What each Triton holds and what was decided lately, as a message."""

from __future__ import annotations

import math

from repository.journal import Decision, Journal
from repository.residency.pod import Pod
from repository.residency.residency import Residency
from repository.residency.usage import Key
from triptych.proto import repository_pb2 as rp


def describe(residency: Residency, journal: Journal) -> rp.DescribeReply:
    """Everything at this moment."""
    pods = list(residency.fleet)
    return rp.DescribeReply(
        predictors=[_predictor(residency, pod) for pod in pods],
        residents=[
            _resident(residency, pod, model) for pod in pods for model in sorted({name for name, _ in pod.ready})
        ],
        decisions=[_decision(each) for each in journal.latest],
    )


def _predictor(residency: Residency, pod: Pod) -> rp.Predictor:
    taken, budget = pod.occupied(residency.needs.size_of), residency.moves.budget(pod)
    return rp.Predictor(
        address=pod.address,
        answers=pod.answers,
        used_bytes=taken.bytes,
        budget_bytes=budget.bytes,
        models=taken.models,
        max_models=budget.models,
        loading=residency.moves.loads_on(pod),
    )


def _resident(residency: Residency, pod: Pod, model: str) -> rp.Resident:
    needs, now_s = residency.needs, residency.clock()
    keys: list[Key] = [(model, version) for version in sorted(pod.ready_versions(model))]
    sizes = [needs.size_of(key) for key in keys]
    idle_s = min(needs.usage.idle_s(key, now_s) for key in keys)
    return rp.Resident(
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


def _decision(decision: Decision) -> rp.Decision:
    version = f" version {decision.version}" if decision.version else ""
    return rp.Decision(
        time_s=decision.time_s,
        action=decision.action,
        model=f"{decision.model}{version}",
        predictor=decision.predictor,
        reason=decision.reason,
        seconds=decision.seconds,
        outcome=decision.outcome,
    )
