"""M/M/c: requests at random moments, c equal servers, one queue (Erlang, 1917; formulas as in Gross and Harris).

`rate` is requests/s, `service_s` the mean time in which one server handles one request, and `servers` is c.
"""

from __future__ import annotations

import math


def utilisation(rate: float, service_s: float, servers: int) -> float:
    """Share of the time in which a server works; above 1 the queue grows without limit."""
    return rate * service_s / servers


def waiting_share(rate: float, service_s: float, servers: int) -> float:
    """Erlang C: share of the requests that find all servers busy; 1 for an overloaded queue."""
    offered = rate * service_s
    if offered >= servers:
        return 1.0
    blocked = 1.0  # Erlang B, server by server
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    return blocked / (1 - (1 - blocked) * offered / servers)


def share_above(seconds: float, rate: float, service_s: float, servers: int) -> float:
    """Share of the requests whose waiting and service together take longer than `seconds`."""
    offered = rate * service_s
    if offered >= servers:
        return 1.0
    elapsed, margin = seconds / service_s, servers - 1 - offered
    waiting = waiting_share(rate, service_s, servers)
    late = elapsed if abs(margin) < 1e-9 else (1 - math.exp(-elapsed * margin)) / margin
    return math.exp(-elapsed) * (1 + waiting * late)


def percentile_s(share: float, rate: float, service_s: float, servers: int) -> float:
    """Time in seconds that this share of the requests does not exceed; infinite for an overloaded queue."""
    if rate * service_s >= servers:
        return math.inf
    low, high = 0.0, service_s
    while share_above(high, rate, service_s, servers) > 1 - share:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if share_above(middle, rate, service_s, servers) > 1 - share else (low, middle)
    return high
