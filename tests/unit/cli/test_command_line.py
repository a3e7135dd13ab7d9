"""The command `triptych`: its commands, their help, and the sentence for a command that does not exist."""

from __future__ import annotations

import pytest

from triptych import __version__
from triptych_cli.__main__ import COMMANDS, main


def test_help_lists_every_command_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert "examples:" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: triptych {name}")
    assert f"triptych {name} " in shown.partition("examples:")[2] + "\n", shown


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["verfy", "models"], "there is no command 'verfy'. Did you mean 'verify'? There are: init, try, verify"),
        (["serve"], "there is no command 'serve'. There are: init, try, verify, digests"),
    ],
)
def test_an_unknown_command_is_answered_with_those_that_exist(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert text in capsys.readouterr().err


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "commands, each with --help" in capsys.readouterr().out


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"{__version__}\n"
