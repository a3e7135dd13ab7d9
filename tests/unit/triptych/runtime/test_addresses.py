"""Addresses in settings: accepted ones, and a sentence for each refused one."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from triptych.client.transport import RETRYING, _options
from triptych.http2.client_stream import ClientLimits
from triptych.runtime.addresses import (
    Address,
    Collector,
    ListeningHost,
    PodAddress,
    address_argument,
    is_numeric,
    join,
    resolve,
    split,
)


class Given(BaseModel):
    host: ListeningHost = "127.0.0.1"
    called: Address = "localhost:9001"
    pod: PodAddress = ""
    collector: Collector = ""


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("postprocess:9001", "postprocess", 9001),
        ("postprocess.shop.svc.cluster.local.:9001", "postprocess.shop.svc.cluster.local.", 9001),
        ("10.0.0.7:65535", "10.0.0.7", 65535),
        ("[::1]:9001", "::1", 9001),
        ("[fd00::7]:1", "fd00::7", 1),
        ("[::ffff:10.0.0.7]:9001", "::ffff:10.0.0.7", 9001),
        ("dns:///postprocess:9001", "postprocess", 9001),
        ("dns:///[::1]:9001", "::1", 9001),
    ],
)
def test_host_and_port_of_an_address(address: str, host: str, port: int) -> None:
    assert split(address) == (host, port)
    assert split(join(host, port)) == (host, port)
    assert Given(called=address).called == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "9001",
        ":9001",
        "postprocess",
        "postprocess:",
        "::1",
        "::1:9001",
        "[::1]",
        "[::1]9001",
        "[postprocess]:9001",
        "[10.0.0.7]:9001",
        "[::1:9001",
        "http://postprocess:9001",
        "grpc://postprocess:9001",
        "dns:postprocess:9001",
        "unix:/tmp/postprocess.sock",
        "/tmp/postprocess.sock",
        "postprocess:0",
        "postprocess:65536",
        "postprocess:-1",
        "postprocess:９００１",
        "postprocess:grpc",
        " postprocess:9001",
        "postprocess:9001 ",
        "post process:9001",
        "post/process:9001",
        "300.0.0.1:9001",
        "-a:9001",
        "a..b:9001",
        "[fe80::1%eth0]:9001",
    ],
)
def test_what_cannot_be_called_is_refused_with_what_is_wanted(address: str) -> None:
    with pytest.raises(ValidationError, match="want host:port"):
        Given(called=address)
    with pytest.raises(ValueError, match="got '"):
        address_argument(address)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("::1", "::1"),
        ("::", "::"),
        ("[::]", "::"),
        ("[::1]", "::1"),
        ("0.0.0.0", "0.0.0.0"),
        ("localhost", "localhost"),
    ],
)
def test_a_service_listens_on_addresses_of_both_families(given: str, meant: str) -> None:
    assert Given(host=given).host == meant


@pytest.mark.parametrize(
    "host", ["", " ::1", "::1 ", "[::1", "127.0.0.1:9000", "[::1]:9000", "tcp://::1", "1.2.3", "fe80::1%lo"]
)
def test_what_cannot_be_listened_on_is_refused(host: str) -> None:
    with pytest.raises(ValidationError, match="want an IP address"):
        Given(host=host)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("fd00::5:9002", "[fd00::5]:9002"),
        ("[fd00::5]:9002", "[fd00::5]:9002"),
        ("10.0.0.7:9002", "10.0.0.7:9002"),
        ("", ""),
    ],
)
def test_the_address_of_a_pod_gets_its_brackets(given: str, meant: str) -> None:
    assert Given(pod=given).pod == meant


@pytest.mark.parametrize("endpoint", ["", "collector:4317", "http://collector:4317", "http://[fd00::7]:4317/"])
def test_a_collector_is_an_address_or_a_url(endpoint: str) -> None:
    assert Given(collector=endpoint).collector == endpoint


@pytest.mark.parametrize("address", ["ipv4:10.0.0.7:9002,10.0.0.8:9002", "ipv6:[::1]:9002,[fd00::7]:9002"])
def test_a_list_of_addresses_is_what_grpc_takes(address: str) -> None:
    assert Given(called=address).called == address
    assert not is_numeric(address)


@pytest.mark.parametrize("address", ["ipv4:", "ipv4:10.0.0.7", "ipv4:10.0.0.7:1,", "ipv4:[::1]:1", "ipv6:[::1]:1,b:2"])
def test_a_list_of_other_addresses_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="want "):
        Given(called=address)


def test_a_name_is_distinguished_from_an_ip_address() -> None:
    assert is_numeric("[::1]:9001")
    assert is_numeric("10.0.0.7:9001")
    assert not is_numeric("postprocess:9001")
    assert not is_numeric("what is this")


def test_grpcio_retries_only_where_it_is_asked_to() -> None:
    assert RETRYING not in _options(False, ClientLimits())
    assert RETRYING in _options(True, ClientLimits())


def test_a_host_is_resolved_to_addresses_without_brackets() -> None:
    assert resolve("::1") == ["::1"]
    assert set(resolve("localhost")) <= {"127.0.0.1", "::1"}
