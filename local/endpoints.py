"""Host and ports of each component: the defaults, the settings that change them, and a check that ports are free."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import MappingProxyType

from local.errors import LocalError

# In the order of starting; stopping is in the reverse order.
COMPONENTS = ("predictor", "controller", "postprocess", "preprocess")

DEFAULT_PORTS = {
    "predictor": (8001, 8002),
    "controller": (9002, 9102),
    "postprocess": (9001, 9101),
    "preprocess": (9000, 9100),
}
PAGE_OFFSET = 100  # from the port of the controller's metrics to that of its page
# A wildcard is called at its loopback address. Triton's metrics server listens on IPv6 alone for ::, hence ::1.
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True)
class Endpoint:
    """The host and the two ports of one component."""

    component: str
    host: str
    port: int
    metrics_port: int

    @property
    def metrics_url(self) -> str:
        """The URL of the metrics for a caller on this machine."""
        return f"http://{self.address.rpartition(':')[0]}:{self.metrics_port}/metrics"

    @property
    def address(self) -> str:
        """`host:port` of the gRPC port for a caller on this machine."""
        host = WILDCARDS.get(self.host, self.host)
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def settings(self) -> Iterator[tuple[str, int]]:
        """Each port with the name of its setting."""
        yield f"{self.component.upper()}_PORT", self.port
        if self.metrics_port:
            yield f"{self.component.upper()}_METRICS_PORT", self.metrics_port

    def variables(self) -> dict[str, str]:
        """The settings as environment variables."""
        prefix = self.component.upper()
        return {
            f"{prefix}_HOST": self.host,
            f"{prefix}_PORT": str(self.port),
            f"{prefix}_METRICS_PORT": str(self.metrics_port),
        }


Endpoints = dict[str, Endpoint]


def from_environment(
    variables: Mapping[str, str], ports: Mapping[str, tuple[int, int]] = MappingProxyType(DEFAULT_PORTS)
) -> Endpoints:
    """Apply PREPROCESS_PORT and its like to the defaults, `ports`. Raises `LocalError`."""
    return {
        component: Endpoint(
            component,
            variables.get(f"{component.upper()}_HOST", "127.0.0.1").removeprefix("[").removesuffix("]"),
            _port(variables, f"{component.upper()}_PORT", port),
            _port(variables, f"{component.upper()}_METRICS_PORT", metrics_port, lowest=0),
        )
        for component, (port, metrics_port) in ports.items()
    }


def page_settings(endpoints: Endpoints, variables: Mapping[str, str]) -> dict[str, str]:
    """The settings of the controller's page: a port beside that of its metrics, unless the environment has one."""
    metrics_port = endpoints["controller"].metrics_port
    beside = min(metrics_port + PAGE_OFFSET, 65535) if metrics_port else 0
    return {
        "CONTROLLER_PAGE_PORT": variables.get("CONTROLLER_PAGE_PORT", str(beside)),
        "CONTROLLER_PAGE_PREPROCESS": endpoints["preprocess"].address,
    }


def free_endpoints(host: str = "127.0.0.1") -> Endpoints:
    """Ports that are free at the moment, for tests beside a running stack."""
    with ExitStack() as stack:
        ports = []
        for _ in range(2 * len(COMPONENTS)):
            listener = stack.enter_context(socket.socket(_family(host)))
            listener.bind((host, 0))
            ports.append(listener.getsockname()[1])
    return {name: Endpoint(name, host, ports[2 * at], ports[2 * at + 1]) for at, name in enumerate(COMPONENTS)}


def check_free(endpoints: Iterable[Endpoint]) -> None:
    """Raises `LocalError` with a line for each port that cannot be listened on."""
    taken: dict[tuple[str, int], str] = {}
    faults = []
    for endpoint in endpoints:
        for setting, port in endpoint.settings():
            other = taken.setdefault((endpoint.host, port), setting)
            reason = f"is also {other}" if other != setting else _reason(endpoint.host, port)
            if reason:
                faults.append(f"port {port} of {endpoint.component} {reason}, or set another: {setting}=...")
    if faults:
        raise LocalError("\n".join(faults))


def _reason(host: str, port: int) -> str:
    with socket.socket(_family(host)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"on {host} is in use: stop what listens there (a stack that runs already?)"
            return f"cannot be opened on {host} ({error.strerror or error}): mend that"
    return ""


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _port(variables: Mapping[str, str], setting: str, default: int, lowest: int = 1) -> int:
    text = variables.get(setting, str(default))
    if not text.isdecimal() or not lowest <= int(text) <= 65535:
        raise LocalError(f"{setting}: want a port, {lowest} to 65535, got '{text}'")
    return int(text)
