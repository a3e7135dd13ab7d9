"""One peer cannot take all places of those that follow the catalogue or wait for loads."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from repository.metrics import RepositoryMetrics
from repository.places import Places
from repository.settings import Settings
from repository.traffic.board import Board
from triptych.call import Call
from triptych.errors import Overloaded
from triptych.peer import peer_host


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


def test_a_peer_has_its_limit_and_the_others_have_theirs() -> None:
    places = Places(5, 3, "watchers follow the catalogue")
    held = [places.place("a") for _ in range(3)]
    for place in held:
        place.__enter__()
    with (
        pytest.raises(Overloaded, match="3 watchers follow the catalogue from a, the limit for one peer"),
        places.place("a"),
    ):
        pass
    with places.place("b"), places.place("b"):
        assert places.taken == 5
        with pytest.raises(Overloaded, match="5 watchers follow the catalogue, the limit; "), places.place("c"):
            pass
    held.pop().__exit__(None, None, None)
    with places.place("a"):
        assert places.taken == 3
    for place in held:
        place.__exit__(None, None, None)
    assert (places.taken, dict(places._by_peer)) == (0, {})


def test_where_the_server_tells_no_peer_all_share_the_whole() -> None:
    places = Places(3, 1, "calls")
    with places.place(""), places.place(""), places.place(""), pytest.raises(Overloaded), places.place("a"):
        pass


def test_a_thousand_streams_of_one_peer_leave_room_for_a_new_pod() -> None:
    settings = Settings()
    assert settings.max_watchers_per_peer * 2 < settings.max_watchers
    assert settings.max_loads_per_peer < settings.max_in_flight

    async def body() -> None:
        metrics = RepositoryMetrics(CollectorRegistry())
        board = Board(metrics, settings.max_watchers, settings.max_watchers_per_peer)
        board.publish({})
        streams, refused = [], 0
        for _ in range(1023):
            stream = board.updates("10.0.0.1")
            try:
                await anext(stream)
            except Overloaded:
                refused += 1
            else:
                streams.append(stream)
        assert (len(streams), refused) == (256, 767)
        assert (await anext(board.updates("10.0.0.2"))).full
        for stream in streams:
            await stream.aclose()  # type: ignore[attr-defined]
        assert (await anext(board.updates("10.0.0.1"))).full

    asyncio.run(body())
