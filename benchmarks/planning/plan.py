"""How many replicas of each stage keep a target, and what that costs grouped and separate.

One replica is one core. Each stage is an M/M/c queue: c is the number of replicas, and the service time is the CPU time
per request at the rate that one replica gets. Utilisation never exceeds `cap`. The p99 of a request is the sum of the
stages' p99s and of the RPC overhead. That is an upper bound: no request meets every queue at its worst, and CPU times
spread less than M/M/c assumes. On a GPU, the predictor is a queue of GPU time per request, and takes one core as well.

Separate stages have their own replicas. With postprocess in process, preprocess does the work of both stages. Grouped,
a pod holds Triton and that preprocess, and one core serves a request with the sum of their times. If the model runs on
a GPU, each pod takes a GPU and a core. If the chain in process was not measured, grouped is computed from the sum of
the three separate stages, which overestimates it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.planning.costs import Costs, Service
from benchmarks.planning.queueing import percentile_s, utilisation

P99 = 0.99
MOST = 10_000  # replicas of a stage: beyond that a target is out of reach
PREDICTOR = "predictor"


@dataclass(frozen=True)
class Target:
    """Load, latency target and prices. Prices of a GPU and of a GiB of memory are in cores.

    `gpu_s` is GPU time per request, 0 without a GPU. `models_gib` is the memory of the loaded models of one predictor.
    """

    rate: float
    p99_s: float
    gpu_s: float = 0.0
    gpu_price: float = 10.0
    models_gib: float = 1.5
    gib_price: float = 0.15
    cap: float = 0.7
    least: int = 1


@dataclass(frozen=True)
class Plan:
    """Replicas of each kind of pod, with their cost. `p99_s` exceeds the target if the target is out of reach."""

    name: str
    replicas: Mapping[str, int]
    busy: Mapping[str, float]
    cores: int
    gpus: int
    gib: float
    p99_s: float
    target: Target = field(repr=False)

    @property
    def price(self) -> float:
        """In cores."""
        return self.cores + self.gpus * self.target.gpu_price + self.gib * self.target.gib_price

    @property
    def reached(self) -> bool:
        return self.p99_s <= self.target.p99_s


def separate(costs: Costs, target: Target) -> Plan:
    """Plan each stage with its own replicas."""
    services = dict(costs.stages)
    if target.gpu_s:
        services[PREDICTOR] = Service.constant(target.gpu_s)
    return _plan("separate", services, target, costs.rpc_overhead_s, holder=PREDICTOR)


def in_process(costs: Costs, target: Target) -> Plan | None:
    """Plan preprocess with postprocess in process, beside the predictor; None if that chain was not measured."""
    if costs.in_process is None:
        return None
    services = dict(costs.in_process.stages)
    if target.gpu_s:
        services[PREDICTOR] = Service.constant(target.gpu_s)
    return _plan("postprocess in process", services, target, costs.in_process.rpc_overhead_s, holder=PREDICTOR)


def grouped(costs: Costs, target: Target) -> Plan:
    """Plan pods that hold Triton and a preprocess with postprocess in process."""
    chain = costs.in_process or costs
    if not target.gpu_s:
        return _plan("grouped", {"pod": chain.together}, target, chain.rpc_overhead_s, holder="pod")
    # The GPU and the core work in parallel: the slower of them decides the replicas, and a request waits for both.
    predictor = chain.stages[PREDICTOR]
    cores = Service(tuple((rate, seconds - predictor.at(rate)) for rate, seconds in chain.together.points))
    slower = Service(tuple((rate, max(seconds, target.gpu_s)) for rate, seconds in cores.points))
    faster_s = min(target.gpu_s, cores.at(0.0))
    return _plan("grouped", {"pod": slower}, target, chain.rpc_overhead_s + faster_s, holder="pod", cores_each=2)


def one_process(costs: Costs, target: Target) -> Plan | None:
    """Plan the peer with all steps in one Python process on CPU; None if it was not measured."""
    if costs.one_process is None or target.gpu_s:
        return None
    return _plan("one process", {"process": costs.one_process}, target, 0.0, holder="process")


def alternatives(costs: Costs, target: Target) -> list[Plan]:
    """All plans; those that reach the target first, the cheapest of them at the top."""
    plans = [separate(costs, target), in_process(costs, target), grouped(costs, target), one_process(costs, target)]
    return sorted((plan for plan in plans if plan), key=lambda plan: (not plan.reached, plan.price))


def p99_s(services: Mapping[str, Service], replicas: Mapping[str, int], rate: float, rpc_overhead_s: float) -> float:
    """p99 of a request in seconds: the sum of the stages' p99s and of the RPC overhead."""
    return rpc_overhead_s + sum(
        percentile_s(P99, rate, service.at(rate / replicas[name]), replicas[name]) for name, service in services.items()
    )


def _replicas(services: Mapping[str, Service], target: Target, rpc_overhead_s: float) -> dict[str, int]:
    """Start with as few as the cap allows; add a replica where it lowers p99 most, until the target is met."""
    replicas = {name: _least(service, target) for name, service in services.items()}
    while (now := p99_s(services, replicas, target.rate, rpc_overhead_s)) > target.p99_s:
        better = {
            name: p99_s(services, {**replicas, name: count + 1}, target.rate, rpc_overhead_s)
            for name, count in replicas.items()
        }
        best = min(better, key=lambda name: better[name])
        if better[best] >= now * (1 - 1e-6) or replicas[best] >= MOST:
            break
        replicas[best] += 1
    return replicas


def _least(service: Service, target: Target) -> int:
    """The smallest number of replicas whose utilisation is within the cap."""
    count = max(1, target.least)
    while utilisation(target.rate, service.at(target.rate / count), count) > target.cap and count < MOST:
        count += 1
    return count


def _plan(
    name: str, services: Mapping[str, Service], target: Target, rpc_overhead_s: float, holder: str, cores_each: int = 1
) -> Plan:
    """Build a plan. `holder` is the kind of pod that holds the models, and the GPU if there is one."""
    replicas = _replicas(services, target, rpc_overhead_s)
    busy = {
        stage: utilisation(target.rate, service.at(target.rate / replicas[stage]), replicas[stage])
        for stage, service in services.items()
    }
    return Plan(
        name,
        replicas,
        busy,
        cores=cores_each * sum(replicas.values()),
        gpus=replicas[holder] if target.gpu_s else 0,
        gib=replicas[holder] * target.models_gib,
        p99_s=p99_s(services, replicas, target.rate, rpc_overhead_s),
        target=target,
    )
