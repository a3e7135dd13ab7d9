"""The command line: contradictory options are refused with a sentence, and nothing is changed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from triptych_cli.rollout.command import main, parser
from triptych_cli.rollout.metrics.page import parse_page
from triptych_cli.rollout.metrics.pods import _addresses, _stage_samples


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """Restore the handler of SIGTERM, which the command treats as an interrupt."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "want a model and --to VERSION, or --inferenceservice NAME"),
        (["m"], "want a model and --to VERSION"),
        (["m", "--to", "2"], "want one of --documents DIR and --namespace NS"),
        (["m", "--to", "2", "--documents", "a", "--namespace", "b"], "want one of --documents DIR and --namespace NS"),
        (["m", "--inferenceservice", "x", "--namespace", "b"], "it takes no model and no --to"),
        (["--inferenceservice", "x"], "--inferenceservice needs --namespace"),
        (["--inferenceservice", "x", "--namespace", "b", "--metrics", "http://x"], "no --metrics, no --prometheus"),
        (["m", "--to", "2", "--namespace", "b", "--kubeconfig", "/nowhere"], "cannot reach the Kubernetes API"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--to", "two", "want a version, a whole number from 1, got 'two'"),
        ("--steps", "50,5", "want rising percents from 1 to 100"),
        ("--hold", "soon", "want a time above 0"),
        ("--max-latency-ratio", "0.5", "want a ratio from 1 to 1000, got '0.5'"),
        ("--max-error-rate-increase", "2", "want a share from 0 to 1, got '2'"),
        ("--max-answer-shift", "nan", "want a share from 0 to 1, got 'nan'"),
        ("--min-requests", "0", "want requests, a whole number from 1, got '0'"),
    ],
)
def test_a_wrong_value_is_quoted(option: str, value: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["m", option, value])
    assert ended.value.code == 2
    assert text in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = tmp_path / "gone"
    assert main(["m", "--to", "2", "--documents", str(gone), "--controller", "127.0.0.1:1"]) == 2
    assert f"{gone}: cannot be read: No such file or directory; --documents names the folder" in capsys.readouterr().err


def pod(component: str, ports: list[str], annotations: dict[str, str] | None = None) -> dict[str, object]:
    containers = [{"ports": [{"name": name, "containerPort": 9100 + at}]} for at, name in enumerate(ports)]
    labels = {"app.kubernetes.io/component": component}
    return {
        "metadata": {"name": "p", "labels": labels, "annotations": annotations or {}},
        "spec": {"containers": containers},
    }


def test_the_address_of_a_pods_metrics_comes_from_its_ports_or_its_annotation() -> None:
    assert _addresses(pod("grouped", ["metrics", "grpc", "metrics"])) == ["p:9100", "p:9102"]
    assert _addresses(pod("preprocess", ["h2c"], {"prometheus.io/port": "9555"})) == ["p:9555"]
    assert _addresses(pod("postprocess", ["h2c"])) == ["p:9101"]


def test_the_versions_of_models_do_not_hide_the_revision_of_the_stage() -> None:
    page = "\n".join(
        [
            "# TYPE triptych_requests_total counter",
            'triptych_requests_total{code="OK",family="digits",stage="preprocess",version="1"} 5.0',
            'triptych_requests_total{code="OK",family="digits",stage="preprocess",version="2"} 7.0',
        ]
    )
    samples = list(_stage_samples("p:9100", "entry-00002", parse_page(page.splitlines())))
    assert {dict(sample.labels)["version"] for sample in samples} == {"entry-00002"}
    assert len({sample.key for sample in samples}) == 2
