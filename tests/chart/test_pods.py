"""Properties of every pod, in every mode."""

from __future__ import annotations

import pytest

from local.environments import ROOT
from tests.chart.objects import Objects, Render, with_process
from triptych.runtime.settings import StageSettings

MODES = ("Standard", "Knative", "Grouped", "Deployment")
STAGES = ("preprocess", "predictor", "postprocess", "controller")
STABLE = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}


@pytest.mark.parametrize("store", [{}, {"store": "s3", "uri": "s3://bucket/models"}])
@pytest.mark.parametrize("mode", MODES)
def test_every_container_is_hardened(render: Render, mode: str, store: dict[str, str]) -> None:
    seen = 0
    for name, container in render({"mode": mode, "models": store, "backend": {"enabled": True}}).containers():
        security = container["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["readOnlyRootFilesystem"] is True, name
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["capabilities"] == {"drop": ["ALL"]}, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for kind in ("requests", "limits"):  # a quota refuses a pod that lacks one
            assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"][kind].keys(), name
        assert not container["image"].endswith(":latest"), name
        seen += 1
    assert seen >= 12


@pytest.mark.parametrize("mode", MODES)
def test_only_the_controller_gets_a_token_of_kubernetes(render: Render, mode: str) -> None:
    made = render({"mode": mode, "backend": {"enabled": True}})
    for name, pod in made.pods():
        assert pod["automountServiceAccountToken"] is (name == "Deployment/controller"), name
        assert pod["enableServiceLinks"] is False, name
    for name, account in made.of("ServiceAccount").items():
        assert account["automountServiceAccountToken"] is (name == "controller"), name


def test_the_controller_may_do_what_its_own_tests_run_with_and_no_more(render: Render) -> None:
    made = render()
    assert not made.of("ClusterRole")
    own = Objects((ROOT / "tests/e2e/rbac.yaml").read_text()).one("Role", "controller")["rules"]
    for rule in own:
        if "resourceNames" in rule:
            rule["resourceNames"] = [made.environment("controller")["CONTROLLER_LEASE"]]
    assert made.one("Role", "controller")["rules"] == own


@pytest.mark.parametrize("mode", MODES)
def test_every_stage_is_probed_by_grpc_for_liveness_and_readiness(render: Render, mode: str) -> None:
    made = render({"mode": mode})
    for stage in with_process(mode, STAGES):
        container = made.container(stage)
        live = {"service": "" if stage == "predictor" else "live"}
        port = container["ports"][0]["containerPort"]
        assert container["startupProbe"]["grpc"] == {"port": port} | live
        assert container["livenessProbe"]["grpc"] == {"port": port} | live
        assert container["readinessProbe"]["grpc"] == {"port": port, "service": ""}


@pytest.mark.parametrize("mode", MODES)
def test_selectors_hold_what_no_upgrade_changes(render: Render, mode: str) -> None:
    before = render({"mode": mode, "backend": {"enabled": True}})
    more = {"preprocess": {"replicas": 2}, "backend": {"enabled": True, "replicas": 2}}
    after = render({"mode": mode, "tag": "9.9.9", "podLabels": {"team": "red"}} | more)

    def selectors(made: Objects) -> dict[tuple[str, str], dict[str, str]]:
        found = {}
        for each in made.all:
            spec = each.get("spec", {})
            selector = spec.get("podSelector") or spec.get("selector")
            if selector:
                labels = selector.get("matchLabels", selector)
                assert labels.keys() == STABLE, each["metadata"]["name"]
                found[each["kind"], each["metadata"]["name"]] = labels
        return found

    assert selectors(before) == selectors(after)
    assert len(selectors(before)) >= 11


@pytest.mark.parametrize("mode", MODES)
def test_every_selector_finds_pods_of_the_render(render: Render, mode: str) -> None:
    made = render({"mode": mode, "backend": {"enabled": True}})
    pods = [each["spec"]["template"]["metadata"]["labels"] for each in made.of("Deployment").values()]
    pods += [each["spec"]["predictor"]["labels"] for each in made.of("InferenceService").values()]
    for service in made.of("Service").values():
        wanted = service["spec"]["selector"].items()
        assert [labels for labels in pods if wanted <= labels.items()], service["metadata"]["name"]


def test_an_upgrade_of_the_chart_alone_restarts_no_pod(render: Render) -> None:
    for isvc in render().of("InferenceService").values():
        assert set(isvc["spec"]["predictor"]["labels"]) == STABLE


@pytest.mark.parametrize("mode", ["Standard", "Grouped", "Deployment"])
def test_a_pod_waits_before_sigterm_and_has_the_time_that_it_needs(render: Render, mode: str) -> None:
    made = render(
        {"mode": mode, "preprocess": {"shutdown": {"preStopSeconds": 7, "terminationGracePeriodSeconds": 55}}}
    )
    assert made.container("preprocess")["lifecycle"] == {"preStop": {"sleep": {"seconds": 7}}}
    grace = {name: pod["terminationGracePeriodSeconds"] for name, pod in made.pods() if not name.startswith("Pod/")}
    assert 55 in grace.values()


def serving_s(made: Objects, stage: str) -> float:
    """Seconds for which a stage takes new calls after its pod began to terminate."""
    sleep_s = float(made.container(stage)["lifecycle"]["preStop"]["sleep"]["seconds"])
    return sleep_s + float(made.environment(stage)[f"{stage.upper()}_DRAIN_S"])


def test_callers_of_a_postprocess_that_stops_have_been_moved_before(render: Render) -> None:
    longest_connection_s = StageSettings.model_fields["connection_age_s"].default * 1.1  # gRPC spreads it by 10 %
    assert serving_s(render(), "postprocess") > longest_connection_s


def test_behind_a_proxy_of_knative_connections_stay_open_unless_that_is_set(render: Render) -> None:
    made = render({"mode": "Knative"})
    assert made.environment("preprocess")["PREPROCESS_CONNECTION_AGE_S"] == "0"
    assert made.environment("postprocess")["POSTPROCESS_CONNECTION_AGE_S"] == "0"
    assert "CONTROLLER_CONNECTION_AGE_S" not in made.environment("controller")
    assert "PREPROCESS_CONNECTION_AGE_S" not in render().environment("preprocess")
    own = render({"mode": "Knative", "preprocess": {"settings": {"connection_age_s": 60}}})
    assert own.environment("preprocess")["PREPROCESS_CONNECTION_AGE_S"] == "60"


@pytest.mark.parametrize(
    ("predictor", "batches"),
    [
        ({}, "8"),  # its limit is two CPUs
        ({"resources": {"limits": {"cpu": "2500m"}}}, "12"),
        ({"resources": {"limits": {"cpu": 0.5}}}, "4"),
        ({"resources": {"limits": {"cpu": None}}}, None),
        ({"resources": None}, None),
        ({"gpus": 1, "image": "nvcr.io/nvidia/tritonserver:25.10-py3"}, None),
    ],
)
def test_a_triton_without_a_gpu_gets_four_batches_at_once_for_each_core(
    render: Render, predictor: dict[str, object], batches: str | None
) -> None:
    for mode in ("Standard", "Grouped"):
        made = render({"mode": mode, "predictor": predictor})
        assert made.environment("preprocess").get("PREPROCESS_PREDICTOR_BATCHES") == batches


def test_the_batches_at_once_of_a_triton_can_be_set(render: Render) -> None:
    made = render({"preprocess": {"settings": {"predictor_batches": 0}}})
    assert made.environment("preprocess")["PREPROCESS_PREDICTOR_BATCHES"] == "0"


def test_triton_gets_shared_memory_and_a_writable_tmp(render: Render) -> None:
    pod = render({"predictor": {"sharedMemory": "1Gi"}}).one("InferenceService", "predictor")["spec"]["predictor"]
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
    mounts = {each["mountPath"]: each for each in pod["containers"][0]["volumeMounts"]}
    assert set(mounts) == {"/models", "/tmp", "/dev/shm"}
    assert mounts["/models"]["readOnly"] is True


def test_the_answers_name_the_revision_that_runs(render: Render) -> None:
    made = render({"tag": "1.2.3", "postprocess": {"image": "registry.example.com:5000/post:7"}})
    assert made.environment("preprocess")["PREPROCESS_REVISION"] == "1.2.3"
    assert made.environment("postprocess")["POSTPROCESS_REVISION"] == "7"
    assert made.container("postprocess")["image"] == "registry.example.com:5000/post:7"
