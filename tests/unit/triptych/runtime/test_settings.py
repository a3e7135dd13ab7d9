"""Settings: their sources, and values that stop the start."""

import pytest
from pydantic import ValidationError

from controller.settings import Settings as ControllerSettings
from preprocess.settings import IN_PROCESS, Settings
from triptych.runtime.settings import load


def test_the_environment_overrides_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREPROCESS_PORT", "9900")
    settings = load(Settings)
    assert settings.port == 9900
    assert settings.host == "127.0.0.1"


def test_an_unknown_variable_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREPROCESS_PROT", "9900")
    with pytest.raises(SystemExit) as stop:
        load(Settings)
    assert stop.value.code == 2
    assert "PREPROCESS_PROT: no such setting" in capsys.readouterr().err


def test_a_wrong_value_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREPROCESS_PORT", "many")
    with pytest.raises(SystemExit) as stop:
        load(Settings)
    assert stop.value.code == 2
    assert "PREPROCESS_PORT: want a whole number, got 'many'\n" in capsys.readouterr().err


def test_a_fault_of_a_secret_setting_does_not_show_its_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONTROLLER_STORE_PROXY", "ftp://user:secret@proxy")
    with pytest.raises(SystemExit):
        load(ControllerSettings)
    said = capsys.readouterr().err
    assert said.startswith("CONTROLLER_STORE_PROXY: ")
    assert "secret" not in said


@pytest.mark.parametrize("value", ["", "inside", "in process", "IN-PROCESS", "in-process:9001x", "postprocess"])
def test_postprocess_is_an_address_or_in_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    for good in ("in-process", "in-process:9001", "[::1]:9001"):
        monkeypatch.setenv("PREPROCESS_POSTPROCESS", good)
        assert load(Settings).postprocess == good
    monkeypatch.setenv("PREPROCESS_POSTPROCESS", value)
    with pytest.raises(SystemExit):
        load(Settings)
    said = capsys.readouterr().err
    assert said.startswith("PREPROCESS_POSTPROCESS: want host:port")
    assert f"; or {IN_PROCESS}, got '{value}'" in said


def test_help_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        load(Settings, ["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"PREPROCESS_{name.upper()}=" in shown for name in Settings.model_fields)


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]
