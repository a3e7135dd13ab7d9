"""Bytes in flight: messages within the limit, messages over it, and messages that are arriving."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes.scripted.settings import Settings
from triptych.errors import Overloaded
from triptych.http2.framing import MessageLimits
from triptych.http2.message_deframer import MessageDeframer, MinDataRate
from triptych.runtime.in_flight import InFlightBytes


def test_what_is_too_much_beside_others_is_refused_until_they_have_gone() -> None:
    in_flight_bytes = InFlightBytes(100)
    in_flight_bytes.acquire(60)
    with pytest.raises(Overloaded, match=r"60 bytes are in flight here, and 41 more .* limit of 100"):
        in_flight_bytes.acquire(41)
    in_flight_bytes.acquire(40)
    in_flight_bytes.release(60)
    in_flight_bytes.acquire(60)
    assert in_flight_bytes.used_bytes == 100


def test_one_that_is_alone_is_admitted_however_large() -> None:
    in_flight_bytes = InFlightBytes(100)
    in_flight_bytes.acquire(1000)
    in_flight_bytes.release(1000)
    in_flight_bytes.acquire(1000)


def test_what_was_made_already_counts_against_the_next() -> None:
    in_flight_bytes = InFlightBytes(100)
    in_flight_bytes.acquire(10)
    in_flight_bytes.acquire_unchecked(200)
    with pytest.raises(Overloaded):
        in_flight_bytes.acquire(1)


def inbox_within(in_flight_bytes: InFlightBytes) -> MessageDeframer:
    """One to which a message of 80 bytes has begun to come, 15 of 85 bytes with its prefix."""
    deframer = MessageDeframer(MessageLimits(100, "identity", 100), in_flight_bytes, ThreadPoolExecutor(1))
    deframer.feed(b"\0" + (80).to_bytes(4, "big") + bytes(10))
    return deframer


async def test_a_message_is_counted_by_what_has_arrived_and_not_by_what_it_announces() -> None:
    in_flight_bytes = InFlightBytes(100)
    coming = [inbox_within(in_flight_bytes) for _ in range(6)]
    assert in_flight_bytes.used_bytes == 6 * 15
    with pytest.raises(Overloaded, match="90 bytes are in flight here, and 15 more"):
        inbox_within(in_flight_bytes)
    for deframer in coming[1:]:
        deframer.close()
    coming[0].feed(bytes(70))
    assert await coming[0].next_message() == bytes(80)
    assert in_flight_bytes.used_bytes == 0


def test_a_caller_that_leaves_within_its_message_releases_its_bytes() -> None:
    deframer = inbox_within(in_flight_bytes := InFlightBytes(100))
    deframer.close()
    assert in_flight_bytes.used_bytes == 0


def test_a_caller_that_stops_within_its_message_gets_an_error() -> None:
    pace = MinDataRate(Settings(min_bytes_per_s=100, slow_after_s=5, request_timeout_s=60))
    assert pace.fault(10.0, 0, 0) is None
    assert pace.fault(14.9, 0, 0) is None
    assert "want 500 bytes of the message in 5 s, got 499" in str(pace.fault(15.0, 0, 499))


def test_a_caller_that_keeps_its_pace_has_the_whole_time_for_each_message() -> None:
    pace = MinDataRate(Settings(min_bytes_per_s=100, slow_after_s=5, request_timeout_s=12))
    assert [pace.fault(at, 0, int(at * 100)) for at in (0.0, 5.0, 10.0)] == [None] * 3
    assert "did not arrive within 12 s" in str(pace.fault(12.1, 0, 1210))
    assert pace.fault(12.2, 1, 1220) is None  # the next message


def test_a_pace_of_zero_is_any() -> None:
    pace = MinDataRate(Settings(min_bytes_per_s=0, request_timeout_s=60))
    assert [pace.fault(at, 0, 0) for at in (1.0, 50.0)] == [None, None]
