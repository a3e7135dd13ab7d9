"""The settings that only the controller has."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from controller.placement.settings import PlacementSettings
from controller.settings import Settings
from triptych.runtime.settings import load


def test_the_addresses_of_the_tritons_are_separated_by_commas() -> None:
    assert Settings(triton="a:1, b:2,").predictors == ("a:1", "b:2")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("pod-1_10.0.0.7:9002", "pod-1_10.0.0.7:9002"),
        ("pod-1_fd00::7:9002", "pod-1_[fd00::7]:9002"),
        ("pod-1_[fd00::7]:9002", "pod-1_[fd00::7]:9002"),
    ],
)
def test_a_replica_with_an_ipv6_address_can_be_called_by_its_identity(given: str, meant: str) -> None:
    assert Settings(identity=given).identity == meant


@pytest.mark.parametrize("text", ["pod-1_", "pod-1_fd00::7", "pod-1_http://a:9002", "pod-1_a:0"])
def test_an_identity_that_no_caller_could_call_stops_the_start(text: str) -> None:
    with pytest.raises(ValidationError, match="identity"):
        Settings(identity=text)


@pytest.mark.parametrize(
    "text",
    ["", ",", "a", "a:", ":8001", "a:0", "a:65536", "a:1,a:1", "::1", "::1:8001", "http://a:1", "a:1,b c:1"],
)
def test_an_address_that_is_none_stops_the_start(text: str) -> None:
    with pytest.raises(ValidationError, match="triton"):
        Settings(triton=text)


@pytest.mark.parametrize(
    "name",
    [
        "poll_s",
        "sync_s",
        "load_timeout_s",
        "max_concurrent_loads",
        "max_waiting_loads",
        "replicas_up_waiting",
        "gpu_percent",
    ],
)
def test_nothing_that_repeats_waits_or_divides_may_be_zero(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings.model_validate({name: 0})


@pytest.mark.parametrize("name", PlacementSettings.model_fields)
def test_no_limit_may_be_negative(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings.model_validate({name: -1})


@pytest.mark.parametrize(
    "name",
    [
        *("max_models", "max_bytes", "headroom_percent", "headroom_max_percent", "headroom_bursts"),
        *("idle_ttl_s", "half_life_s", "triton_metrics_port"),
    ],
)
def test_what_has_an_off_is_switched_off_by_zero(name: str) -> None:
    assert getattr(Settings.model_validate({name: 0}), name) == 0


def test_headroom_of_all_memory_is_refused() -> None:
    for name in ("headroom_percent", "headroom_max_percent"):
        with pytest.raises(ValidationError, match=name):
            Settings.model_validate({name: 100})


@pytest.mark.parametrize("name", PlacementSettings.model_fields)
def test_every_limit_is_a_variable_of_the_environment_and_described(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    text = "0" if PlacementSettings.model_fields[name].annotation is bool else "7"
    monkeypatch.setenv(f"CONTROLLER_{name.upper()}", text)
    assert getattr(load(Settings), name) == int(text)
    with pytest.raises(SystemExit):
        load(Settings, ["--help"])
    assert f"CONTROLLER_{name.upper()}" in capsys.readouterr().out
    assert PlacementSettings.model_fields[name].description


@pytest.mark.parametrize(
    ("release", "lease", "name"),
    [("", "", "triptych-controller"), ("blue", "", "blue-controller"), ("blue", "own", "own")],
)
def test_no_two_releases_elect_one_leader(release: str, lease: str, name: str) -> None:
    assert Settings(release=release, lease=lease).lease_name == name


@pytest.mark.parametrize("text", ["Blue", "blue_1", "-blue", "blue-", "b" * 64])
def test_a_release_that_no_object_can_name_stops_the_start(text: str) -> None:
    with pytest.raises(ValidationError, match="release"):
        Settings(release=text)
