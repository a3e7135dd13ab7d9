"""How many replicas of each stage keep a target, and what that costs grouped and separate.

The rule: one replica is one core. Each stage is a queue of its own (M/M/c: c is its replicas, the service time its CPU
time per request at the rate that one replica gets), never busier than `cap`. The p99 of a request is taken as the sum
of its stages' p99s and of the hops: more than it will be, as no request is unlucky everywhere and CPU times spread less
than M/M/c has it. The predictor on a GPU is a queue of the GPU's time for a request, with a core beside it.

Separate stages have replicas of their own. With postprocess in process, preprocess does its work and the predictor is
still on its own. Grouped, a pod has Triton and that preprocess in it: its core serves a request with the sum of their
times. When the model runs on a GPU, every such pod needs one, and a core beside it. Where the chain in process was not
measured, grouped is reckoned with the sum of the three separate stages, which is more than it takes.
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
    """`gpu_s` is the GPU's time for one request, 0 without a GPU. Prices are in cores: of a GPU, of a GiB of memory.

    `models_gib` is what each pod with a predictor takes for its loaded models.
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
    """Replicas of each kind of pod and what they come to. `p99_s` is above the target where that is out of reach."""

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
    """Each stage on its own."""
    services = dict(costs.stages)
    if target.gpu_s:
        services[PREDICTOR] = Service.constant(target.gpu_s)
    return _plan("separate", services, target, costs.hops_s, holder=PREDICTOR)


def in_process(costs: Costs, target: Target) -> Plan | None:
    """Preprocess with the work of postprocess, and the predictor on its own; where that was measured."""
    if costs.in_process is None:
        return None
    services = dict(costs.in_process.stages)
    if target.gpu_s:
        services[PREDICTOR] = Service.constant(target.gpu_s)
    return _plan("postprocess in process", services, target, costs.in_process.hops_s, holder=PREDICTOR)


def grouped(costs: Costs, target: Target) -> Plan:
    """Pods that have Triton in them, and preprocess with the work of postprocess."""
    chain = costs.in_process or costs
    if not target.gpu_s:
        return _plan("grouped", {"pod": chain.together}, target, chain.hops_s, holder="pod")
    # The GPU and the stages' core work side by side: the slower one decides how many, and both take their time.
    predictor = chain.stages[PREDICTOR]
    cores = Service(tuple((rate, seconds - predictor.at(rate)) for rate, seconds in chain.together.points))
    slower = Service(tuple((rate, max(seconds, target.gpu_s)) for rate, seconds in cores.points))
    faster_s = min(target.gpu_s, cores.at(0.0))
    return _plan("grouped", {"pod": slower}, target, chain.hops_s + faster_s, holder="pod", cores_each=2)


def one_process(costs: Costs, target: Target) -> Plan | None:
    """The peer with everything in one Python process, where it was measured; it has no GPU."""
    if costs.one_process is None or target.gpu_s:
        return None
    return _plan("one process", {"process": costs.one_process}, target, 0.0, holder="process")


def alternatives(costs: Costs, target: Target) -> list[Plan]:
    """All plans, the cheapest of those that reach the target first."""
    plans = [separate(costs, target), in_process(costs, target), grouped(costs, target), one_process(costs, target)]
    return sorted((plan for plan in plans if plan), key=lambda plan: (not plan.reached, plan.price))


def p99_s(services: Mapping[str, Service], replicas: Mapping[str, int], rate: float, hops_s: float) -> float:
    """By the rule above."""
    return hops_s + sum(
        percentile_s(P99, rate, service.at(rate / replicas[name]), replicas[name]) for name, service in services.items()
    )


def _replicas(services: Mapping[str, Service], target: Target, hops_s: float) -> dict[str, int]:
    """As few as the cap allows, then one more where it helps most, until the target is kept or nothing helps."""
    replicas = {name: _least(service, target) for name, service in services.items()}
    while (now := p99_s(services, replicas, target.rate, hops_s)) > target.p99_s:
        better = {
            name: p99_s(services, {**replicas, name: count + 1}, target.rate, hops_s)
            for name, count in replicas.items()
        }
        best = min(better, key=lambda name: better[name])
        if better[best] >= now * (1 - 1e-6) or replicas[best] >= MOST:
            break
        replicas[best] += 1
    return replicas


def _least(service: Service, target: Target) -> int:
    """As few as the cap allows."""
    count = max(1, target.least)
    while utilisation(target.rate, service.at(target.rate / count), count) > target.cap and count < MOST:
        count += 1
    return count


def _plan(
    name: str, services: Mapping[str, Service], target: Target, hops_s: float, holder: str, cores_each: int = 1
) -> Plan:
    """`holder` is the kind of pod that has the models, and the GPU if there is one."""
    replicas = _replicas(services, target, hops_s)
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
        p99_s=p99_s(services, replicas, target.rate, hops_s),
        target=target,
    )
