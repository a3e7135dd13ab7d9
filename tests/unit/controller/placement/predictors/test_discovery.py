"""Discovery of Tritons: all addresses of each name, in a stable order; the last known ones if DNS does not answer."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from controller.placement.predictors.discovery import Discovery


class Dns:
    """Fake of the resolver: addresses by name; other names cannot be resolved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **hosts: Sequence[str]) -> None:
        self.hosts: dict[str, Sequence[str]] = dict(hosts)
        self.asked: list[tuple[str, int]] = []
        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", lambda _loop, *a, **k: self.look_up(*a, **k))

    async def look_up(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        self.asked.append((host, port))
        if host not in self.hosts:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        found: list[tuple[Any, ...]] = []
        for address in self.hosts[host]:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            found.append((family, socket.SOCK_STREAM, 6, "", (address, port)))
        return found


async def test_a_name_resolves_to_all_its_addresses_in_a_stable_order(monkeypatch: pytest.MonkeyPatch) -> None:
    dns = Dns(monkeypatch, triton=["10.0.0.2", "10.0.0.1"])
    discovery = Discovery(["triton:8001"])
    first = await discovery.addresses()
    dns.hosts["triton"] = ["10.0.0.1", "10.0.0.2", "10.0.0.1"]
    assert await discovery.addresses() == first == ("10.0.0.1:8001", "10.0.0.2:8001")
    assert dns.asked[0] == ("triton", 8001)


async def test_pods_are_added_and_removed_with_the_addresses_of_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    dns = Dns(monkeypatch, triton=["10.0.0.1"])
    discovery = Discovery(["triton:8001"])
    await discovery.addresses()
    dns.hosts["triton"] = ["10.0.0.2"]
    assert await discovery.addresses() == ("10.0.0.2:8001",)


async def test_an_address_that_two_names_have_is_one_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    Dns(monkeypatch, one=["10.0.0.1"], two=["10.0.0.2", "10.0.0.1"])
    discovery = Discovery(["one:8001", "two:8001", "10.0.0.2:8001", "one:8002"])
    assert await discovery.addresses() == ("10.0.0.1:8001", "10.0.0.2:8001", "10.0.0.1:8002")


@pytest.mark.parametrize("address", ["10.0.0.1:8001", "[::1]:8001", "[fd00::17]:8001"])
async def test_an_address_is_not_resolved(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    dns = Dns(monkeypatch)
    assert await Discovery([address]).addresses() == (address,)
    assert dns.asked == []


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (["fd00::2", "fd00::1"], ("[fd00::1]:8001", "[fd00::2]:8001")),
        (["fd00::1", "10.0.0.1"], ("10.0.0.1:8001",)),
    ],
    ids=["IPv6 alone", "both"],
)
async def test_a_pod_with_addresses_of_both_kinds_is_one_triton(
    monkeypatch: pytest.MonkeyPatch, there: list[str], found: tuple[str, ...]
) -> None:
    Dns(monkeypatch, triton=there)
    assert await Discovery(["triton:8001"]).addresses() == found


async def test_a_name_that_cannot_be_resolved_keeps_its_addresses_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dns = Dns(monkeypatch, one=["10.0.0.1"], two=["10.0.0.2"])
    discovery = Discovery(["one:8001", "two:8001"])
    await discovery.addresses()
    del dns.hosts["one"]
    dns.hosts["two"] = ["10.0.0.3"]
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert await discovery.addresses() == ("10.0.0.1:8001", "10.0.0.3:8001")
    assert [vars(record)["predictor"] for record in caplog.records] == ["one:8001"]
    dns.hosts["one"] = ["10.0.0.9"]
    assert await discovery.addresses() == ("10.0.0.9:8001", "10.0.0.3:8001")
    del dns.hosts["one"]
    caplog.clear()
    await discovery.addresses()
    assert len(caplog.records) == 1


async def test_a_name_that_was_never_resolved_has_no_addresses_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    Dns(monkeypatch, two=["10.0.0.2"])
    assert await Discovery(["one:8001", "two:8001"]).addresses() == ("10.0.0.2:8001",)


@pytest.mark.parametrize("host", ["triton..svc", "x" * 64])
async def test_a_name_that_cannot_be_one_is_reported_and_the_others_go_on(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Use the real resolver, whose error differs."""
    with caplog.at_level(logging.WARNING):
        assert await Discovery([f"{host}:8001", "10.0.0.2:8001"]).addresses() == ("10.0.0.2:8001",)
    assert [vars(record)["predictor"] for record in caplog.records] == [f"{host}:8001"]


async def test_this_machine_is_found_by_the_real_resolver() -> None:
    assert await Discovery(["localhost:8001"]).addresses() in (("127.0.0.1:8001",), ("[::1]:8001",))
