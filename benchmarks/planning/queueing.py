"""M/M/c queue: Poisson arrivals, c equal servers, one queue (Erlang, 1917; formulas as in Gross and Harris).

`rate` is requests/s, `service_s` the mean service time of a request in seconds, and `servers` is c.
"""

from __future__ import annotations

import math


def utilisation(rate: float, service_s: float, servers: int) -> float:
    """Share of the time in which a server is busy."""
    return rate * service_s / servers


def waits(rate: float, service_s: float, servers: int) -> float:
    """Erlang C: share of the requests that find all servers busy. 1 if the servers cannot keep up."""
    offered = rate * service_s
    if offered >= servers:
        return 1.0
    blocked = 1.0  # Erlang B, server by server
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    return blocked / (1 - (1 - blocked) * offered / servers)


def longer(seconds: float, rate: float, service_s: float, servers: int) -> float:
    """Share of the requests whose wait and service together take longer than `seconds`."""
    offered = rate * service_s
    if offered >= servers:
        return 1.0
    done, spare = seconds / service_s, servers - 1 - offered
    queued = waits(rate, service_s, servers)
    late = done if abs(spare) < 1e-9 else (1 - math.exp(-done * spare)) / spare
    return math.exp(-done) * (1 + queued * late)


def percentile_s(share: float, rate: float, service_s: float, servers: int) -> float:
    """Response time in seconds within which `share` of the requests stay; infinite if the servers cannot keep up."""
    if rate * service_s >= servers:
        return math.inf
    low, high = 0.0, service_s
    while longer(high, rate, service_s, servers) > 1 - share:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if longer(middle, rate, service_s, servers) > 1 - share else (low, middle)
    return high
