"""One peer cannot take all slots of watchers or of loads, and many peers cannot exclude the stages."""

from __future__ import annotations

import ssl
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest
import trustme
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from controller.call_slots import CallSlots, Reservation
from controller.metrics import ControllerMetrics
from controller.settings import Settings
from controller.traffic.watch_hub import WatchHub
from tests.unit.controller.traffic.watching import watch
from triptych.errors import Overloaded
from triptych.protocol.call import Call
from triptych.protocol.peer import certificate_names, peer_host


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.1:5000", "10.0.0.1"),
        ("ipv6:%5B2001:db8:1:2:3::4%5D:5000", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2:ffff::9]:1", "2001:db8:1:2::/64"),
        ("ipv6:%5B::ffff:10.0.0.1%5D:5000", "10.0.0.1"),
        ("ipv6:[fe80::1%25eth0]:5000", "fe80::/64"),
        ("unix:/run/socket", "unix"),
        ("unix:", "unix"),
        ("ipv4:", "ipv4"),
        ("ipv4:\x00:1", "ipv4"),
        ("", ""),
    ],
)
def test_a_peer_is_its_host_whatever_its_port(peer: str, host: str) -> None:
    assert peer_host(peer) == host
    assert Call.within(1).peer == ""


def test_names_of_a_certificate_are_those_that_grpc_gives() -> None:
    """A connection of `ssl` through memory; the component tests check the same with grpc.aio."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.issue_cert("preprocess", "10.0.0.1", "a@b", common_name="stage").configure_cert(client)
    for context in (server, client):
        authority.configure_trust(context)
    server.verify_mode, client.check_hostname = ssl.CERT_REQUIRED, False
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for end in ends:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    assert certificate_names(ends[1].getpeercert() or {}) == {"preprocess", "10.0.0.1", "a@b", "stage"}
    assert certificate_names({}) == frozenset()


def call_of(peer: str, *names: str) -> Call:
    return replace(Call.within(60), ask_peer=lambda: f"ipv4:{peer}:1" if peer else "", ask_identity=lambda: names)


def test_a_peer_has_its_limit_and_the_others_have_theirs() -> None:
    slots = CallSlots(5, 3, "watchers follow the catalog")
    one, two = call_of("10.0.0.1"), call_of("10.0.0.2")
    held = [slots.slot(one) for _ in range(3)]
    for slot in held:
        slot.__enter__()
    with (
        pytest.raises(Overloaded, match="3 watchers follow the catalog from 10.0.0.1, the limit for one peer"),
        slots.slot(one),
    ):
        pass
    with slots.slot(two), slots.slot(two):
        assert slots.taken == 5
        with (
            pytest.raises(Overloaded, match="5 watchers follow the catalog, the limit; "),
            slots.slot(call_of("10.0.0.3")),
        ):
            pass
    held.pop().__exit__(None, None, None)
    with slots.slot(one):
        assert slots.taken == 3
    for slot in held:
        slot.__exit__(None, None, None)
    assert (slots.taken, dict(slots._by_peer)) == (0, {})


def test_where_the_server_knows_no_peer_all_share_one_limit() -> None:
    slots, unknown = CallSlots(3, 1, "calls"), call_of("")
    with (
        slots.slot(unknown),
        slots.slot(unknown),
        slots.slot(unknown),
        pytest.raises(Overloaded),
        slots.slot(call_of("10.0.0.1")),
    ):
        pass


STAGES = Reservation(frozenset({"preprocess", "controller"}), 50)


@pytest.mark.parametrize(
    "names", [(), ("client",), ("preprocess.evil.example",), ("Preprocess",), ("*",), ("",)], ids=repr
)
def test_outside_callers_with_any_number_of_addresses_leave_a_share_to_the_stages(names: tuple[str, ...]) -> None:
    slots = CallSlots(10, 3, "watchers follow the catalog", STAGES)
    with ExitStack() as held:
        for number in range(5):
            held.enter_context(slots.slot(call_of(f"10.0.1.{number}", *names)))
        with (
            pytest.raises(Overloaded, match="5 watchers .* without a certificate of a stage, the limit for them"),
            slots.slot(call_of("10.0.9.9", *names)),
        ):
            pass
        for number in range(5):
            held.enter_context(slots.slot(call_of(f"10.0.2.{number}", "any", "preprocess")))
        with (
            pytest.raises(Overloaded, match="10 watchers follow the catalog, the limit; "),
            slots.slot(call_of("10.0.2.9", "preprocess")),
        ):
            pass
    assert (slots.taken, slots._others) == (0, 0)


def test_stages_may_take_every_slot_and_a_released_one_is_free_for_all() -> None:
    slots = CallSlots(4, 4, "calls", STAGES)
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(slots.slot(call_of("10.0.0.1", "controller")))
        with pytest.raises(Overloaded, match="4 calls, the limit"), slots.slot(call_of("10.0.0.2")):
            pass
    with slots.slot(call_of("10.0.0.2")), slots.slot(call_of("10.0.0.2")):
        assert slots.taken == 2


@pytest.mark.parametrize(
    ("reservation", "most", "kept"),
    [
        (Reservation(), 10, 0),
        (Reservation(frozenset({"a"}), 0), 10, 0),
        (Reservation(frozenset(), 50), 10, 0),
        (Reservation(frozenset({"a"}), 50), 10, 5),
        (Reservation(frozenset({"a"}), 10), 4, 1),
        (Reservation(frozenset({"a"}), 99), 1, 1),
    ],
)
def test_the_reserved_share_is_of_all_slots_and_at_least_one(reservation: Reservation, most: int, kept: int) -> None:
    assert reservation.slots(most) == kept


def test_names_of_stages_want_certificates_of_callers() -> None:
    secret = {"tls_cert": "a", "tls_key": "b"}
    settings = Settings(**secret, tls_client_ca="c", stage_names="preprocess, controller", reserved_percent=25)  # type: ignore[arg-type]
    assert settings.reservation == Reservation(frozenset({"preprocess", "controller"}), 25)
    assert Settings().reservation.slots(1024) == 0
    assert Settings().reserved_percent == 50
    with pytest.raises(ValidationError, match="want TLS_CLIENT_CA beside it"):
        Settings(**secret, stage_names="preprocess")  # type: ignore[arg-type]


async def test_a_thousand_streams_of_one_peer_leave_slots_for_a_new_pod() -> None:
    settings = Settings()
    assert settings.max_watchers_per_peer * 2 < settings.max_watchers
    assert settings.max_loads_per_peer < settings.max_in_flight
    slots = CallSlots(settings.max_watchers, settings.max_watchers_per_peer, "watchers follow the catalog")
    watch_hub = WatchHub(ControllerMetrics(CollectorRegistry()), slots)
    watch_hub.publish({})
    streams, refused = [], 0
    for _ in range(1023):
        stream = watch(watch_hub, call_of("10.0.0.1"))
        try:
            await anext(stream)
        except Overloaded:
            refused += 1
        else:
            streams.append(stream)
    assert (len(streams), refused) == (256, 767)
    assert (await anext(watch(watch_hub, call_of("10.0.0.2")))).full
    for stream in streams:
        await stream.aclose()
    assert (await anext(watch(watch_hub, call_of("10.0.0.1")))).full
