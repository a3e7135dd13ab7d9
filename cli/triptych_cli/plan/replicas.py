"""Replicas of each stage for a load, and their price, grouped and separate.

The rule: one replica is one core. Each stage is a queue of its own (M/M/c: c is its replicas, the service time its CPU
time of a request at the rate of one replica) and never exceeds `max_utilisation`. The p99 of a request is the sum of
its stages' p99s and of the RPC overhead. That is an upper bound, because a request is seldom slow everywhere, and CPU
times vary less than in M/M/c. A predictor on a GPU is a queue of the GPU's time for a request, with a core beside it.

Separate stages have replicas of their own. With postprocess in process, preprocess runs both transforms and the
predictor is separate. Grouped, a pod has Triton and that preprocess in it: its core serves a request in the sum of
their times. With a GPU, every such pod needs one, and a core beside it. If postprocess in process was not measured,
grouped is computed with the sum of the three separate stages, which is more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from triptych_cli.plan.costs import Costs, ServiceTime
from triptych_cli.plan.queueing import percentile_s, utilisation

P99 = 0.99
MAX_REPLICAS = 10_000  # of a stage; a load that needs more is out of reach
PREDICTOR = "predictor"


@dataclass(frozen=True)
class LoadTarget:
    """The load and its latency target. Prices are in cores: of a GPU, of a GiB of memory.

    `gpu_s` is the GPU's time for one request, 0 without a GPU. `models_gib` is the memory of the loaded models in each
    pod with a predictor.
    """

    rate: float
    p99_s: float
    gpu_s: float = 0.0
    gpu_price: float = 10.0
    models_gib: float = 1.5
    gib_price: float = 0.15
    max_utilisation: float = 0.7
    min_replicas: int = 1


@dataclass(frozen=True)
class ReplicaPlan:
    """Replicas of each kind of pod and their sums; `p99_s` above the target means that it is out of reach."""

    name: str
    replicas: Mapping[str, int]
    utilisation: Mapping[str, float]
    cores: int
    gpus: int
    gib: float
    p99_s: float
    target: LoadTarget = field(repr=False)

    @property
    def price(self) -> float:
        """Price in cores."""
        return self.cores + self.gpus * self.target.gpu_price + self.gib * self.target.gib_price

    @property
    def meets_target(self) -> bool:
        """Whether p99 is within the target."""
        return self.p99_s <= self.target.p99_s


def separate(costs: Costs, target: LoadTarget) -> ReplicaPlan:
    """Each stage on its own."""
    services = dict(costs.separate.stages)
    if target.gpu_s:
        services[PREDICTOR] = ServiceTime.constant(target.gpu_s)
    return _plan("separate", services, target, costs.separate.rpc_overhead_s, holder=PREDICTOR)


def in_process(costs: Costs, target: LoadTarget) -> ReplicaPlan | None:
    """Preprocess with postprocess in process, and a separate predictor; None if that was not measured."""
    if costs.in_process is None:
        return None
    services = dict(costs.in_process.stages)
    if target.gpu_s:
        services[PREDICTOR] = ServiceTime.constant(target.gpu_s)
    return _plan("postprocess in process", services, target, costs.in_process.rpc_overhead_s, holder=PREDICTOR)


def grouped(costs: Costs, target: LoadTarget) -> ReplicaPlan:
    """Pods with Triton, and preprocess with postprocess in process."""
    measured = costs.in_process or costs.separate
    if not target.gpu_s:
        return _plan("grouped", {"pod": measured.together}, target, measured.rpc_overhead_s, holder="pod")
    # GPU and core of a pod work in parallel: the slower one determines the replicas, and a request takes both times.
    predictor = measured.stages[PREDICTOR]
    cores = ServiceTime(tuple((rate, seconds - predictor.at(rate)) for rate, seconds in measured.together.points))
    slower = ServiceTime(tuple((rate, max(seconds, target.gpu_s)) for rate, seconds in cores.points))
    faster_s = min(target.gpu_s, cores.at(0.0))
    return _plan("grouped", {"pod": slower}, target, measured.rpc_overhead_s + faster_s, holder="pod", cores_each=2)


def one_process(costs: Costs, target: LoadTarget) -> ReplicaPlan | None:
    """The peer with everything in one Python process, without a GPU; None if it was not measured."""
    if costs.one_process is None or target.gpu_s:
        return None
    return _plan("one process", {"process": costs.one_process}, target, 0.0, holder="process")


def alternatives(costs: Costs, target: LoadTarget) -> list[ReplicaPlan]:
    """All plans: first those that meet the target, by price."""
    plans = [separate(costs, target), in_process(costs, target), grouped(costs, target), one_process(costs, target)]
    return sorted((plan for plan in plans if plan), key=lambda plan: (not plan.meets_target, plan.price))


def p99_s(
    services: Mapping[str, ServiceTime], replicas: Mapping[str, int], rate: float, rpc_overhead_s: float
) -> float:
    """Upper bound of p99 in seconds, by the rule of this module."""
    return rpc_overhead_s + sum(
        percentile_s(P99, rate, service.at(rate / replicas[name]), replicas[name]) for name, service in services.items()
    )


def _replicas(services: Mapping[str, ServiceTime], target: LoadTarget, rpc_overhead_s: float) -> dict[str, int]:
    """Start with the fewest that `max_utilisation` allows, then add one where it lowers p99 most."""
    replicas = {name: _fewest(service, target) for name, service in services.items()}
    while (now := p99_s(services, replicas, target.rate, rpc_overhead_s)) > target.p99_s:
        better = {
            name: p99_s(services, {**replicas, name: count + 1}, target.rate, rpc_overhead_s)
            for name, count in replicas.items()
        }
        best = min(better, key=lambda name: better[name])
        if better[best] >= now * (1 - 1e-6) or replicas[best] >= MAX_REPLICAS:
            break
        replicas[best] += 1
    return replicas


def _fewest(service: ServiceTime, target: LoadTarget) -> int:
    """The fewest replicas within `max_utilisation`."""
    count = max(1, target.min_replicas)
    while (
        utilisation(target.rate, service.at(target.rate / count), count) > target.max_utilisation
        and count < MAX_REPLICAS
    ):
        count += 1
    return count


def _plan(
    name: str,
    services: Mapping[str, ServiceTime],
    target: LoadTarget,
    rpc_overhead_s: float,
    holder: str,
    cores_each: int = 1,
) -> ReplicaPlan:
    """`holder` is the kind of pod that has the models, and the GPU if there is one."""
    replicas = _replicas(services, target, rpc_overhead_s)
    return ReplicaPlan(
        name,
        replicas,
        {
            stage: utilisation(target.rate, service.at(target.rate / replicas[stage]), replicas[stage])
            for stage, service in services.items()
        },
        cores=cores_each * sum(replicas.values()),
        gpus=replicas[holder] if target.gpu_s else 0,
        gib=replicas[holder] * target.models_gib,
        p99_s=p99_s(services, replicas, target.rate, rpc_overhead_s),
        target=target,
    )
