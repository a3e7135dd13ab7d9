"""Ports: their settings, and one clear line for each that is not available."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from local.endpoints import Endpoint, check_free, free_endpoints, from_environment
from local.errors import LocalError


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_without_settings_the_ports_are_those_of_the_design() -> None:
    endpoints = from_environment({})
    assert {name: (e.host, e.port, e.metrics_port) for name, e in endpoints.items()} == {
        "preprocess": ("127.0.0.1", 9000, 9100),
        "postprocess": ("127.0.0.1", 9001, 9101),
        "controller": ("127.0.0.1", 9002, 9102),
        "predictor": ("127.0.0.1", 8001, 8002),
    }


def test_every_port_and_host_can_be_set() -> None:
    endpoints = from_environment({"PREPROCESS_PORT": "1234", "PREDICTOR_METRICS_PORT": "0"})
    assert endpoints["preprocess"].port == 1234
    assert endpoints["predictor"].metrics_port == 0
    assert from_environment({"CONTROLLER_HOST": "0.0.0.0"})["controller"].address == "127.0.0.1:9002"


@pytest.mark.parametrize("text", ["", "tcp://10.0.0.1:80", "70000", "-1", "0"])
def test_a_setting_that_is_no_port_is_named_with_what_came(text: str) -> None:
    with pytest.raises(LocalError, match=f"PREPROCESS_PORT: want a port, 1 to 65535, got '{text}'"):
        from_environment({"PREPROCESS_PORT": text})


def test_a_port_in_use_is_one_line_with_the_port_the_setting_and_what_to_do(taken: int) -> None:
    with pytest.raises(LocalError) as caught:
        check_free([Endpoint("preprocess", "127.0.0.1", taken, 0)])
    (line,) = str(caught.value).splitlines()
    assert f"port {taken} of preprocess on 127.0.0.1 is in use" in line
    assert "PREPROCESS_PORT=" in line


def test_every_port_in_use_has_its_line(taken: int) -> None:
    with pytest.raises(LocalError) as caught:
        check_free([Endpoint("preprocess", "127.0.0.1", taken, taken)])
    assert len(str(caught.value).splitlines()) == 2
    assert "is also PREPROCESS_PORT" in str(caught.value)


def test_an_address_that_is_not_of_this_machine_is_refused() -> None:
    with pytest.raises(LocalError, match="cannot be opened on 192.0.2.1"):
        check_free([Endpoint("preprocess", "192.0.2.1", 9000, 0)])


def test_free_endpoints_are_free_and_all_different() -> None:
    endpoints = free_endpoints()
    check_free(endpoints.values())
    ports = [port for endpoint in endpoints.values() for _, port in endpoint.settings()]
    assert len(set(ports)) == len(ports) == 8
