"""Models in an object store: the mirror beside each Triton, and what its readers get."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.objects import Objects, Render

STORE = {"store": "s3", "uri": "s3://bucket/models", "secret": "keys", "endpoint": "http://minio:9000"}


def pod_of(made: Objects, stage: str) -> Any:
    container = made.container(stage)
    return next(pod for _, pod in made.pods() if container in pod["containers"])


@pytest.mark.parametrize("mode", ["Standard", "Knative", "Grouped", "Deployment"])
def test_beside_each_triton_a_folder_is_kept_in_step_with_an_object_store(render: Render, mode: str) -> None:
    made = render({"mode": mode, "models": STORE | {"pollSeconds": 7}})
    first, beside = pod_of(made, "predictor")["initContainers"]
    where = ["mirror", "s3://bucket/models", "/models/mirror", "--whole"]
    assert first["args"] == [*where, "--once", "--max-objects=300000", "--secret=/store/secret"]
    assert beside["args"] == [*where, "--every=7s", "--max-objects=300000", "--secret=/store/secret"]
    assert ("restartPolicy" in first, beside["restartPolicy"]) == (False, "Always")
    for each in (first, beside):
        assert each["image"] == made.container("controller")["image"]
        assert {"name": "AWS_ENDPOINT_URL", "value": "http://minio:9000"} in each["env"]
        mount = {"name": "models", "mountPath": "/models"}
        assert mount in each["volumeMounts"], "the mirror is a folder within, no mount of its own"
    assert "--model-repository=/models/mirror" in made.container("predictor")["args"]
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in made.container("predictor")["volumeMounts"]
    assert {"name": "models", "emptyDir": {}} in pod_of(made, "predictor")["volumes"]


def test_the_controller_reads_the_contracts_of_an_object_store_itself(render: Render) -> None:
    made = render({"models": STORE | {"pollSeconds": 7, "region": "eu"}})
    environment = made.environment("controller")
    assert environment["CONTROLLER_MODEL_REPOSITORY"] == "s3://bucket/models"
    assert environment["CONTROLLER_MIRROR"] == "/models/contracts"
    assert (environment["CONTROLLER_POLL_S"], environment["CONTROLLER_FAILURE_TTL_S"]) == ("7", "7")
    assert (environment["AWS_ENDPOINT_URL"], environment["AWS_REGION"]) == ("http://minio:9000", "eu")
    assert {"name": "models", "mountPath": "/models"} in made.container("controller")["volumeMounts"]
    assert "initContainers" not in pod_of(made, "controller")
    longer = render({"models": STORE, "controller": {"settings": {"failure_ttl_s": 60}}})
    assert longer.environment("controller")["CONTROLLER_FAILURE_TTL_S"] == "60"
    folder = render().environment("controller")
    assert folder["CONTROLLER_MODEL_REPOSITORY"] == "/models"
    assert not {"CONTROLLER_MIRROR", "CONTROLLER_POLL_S", "CONTROLLER_FAILURE_TTL_S"} & folder.keys()


READERS = (
    "InferenceService/predictor/models",
    "InferenceService/predictor/mirror",
    "Deployment/controller/controller",
)


def readers(made: Objects, volume: str) -> dict[str, Any]:
    """The containers that mount a volume, with its path, and the volume of their pods."""
    found = {}
    pods = dict(made.pods())
    for name, container in made.containers():
        paths = [each["mountPath"] for each in container.get("volumeMounts", ()) if each["name"] == volume]
        if paths:
            (given,) = (each for each in pods[name.rpartition("/")[0]]["volumes"] if each["name"] == volume)
            found[name] = (paths, given)
    return found


@pytest.mark.parametrize("store", ["s3", "gs"])
def test_keys_of_a_store_are_files_which_kubernetes_renews_for_its_readers_alone(render: Render, store: str) -> None:
    made = render({"models": {"store": store, "uri": f"{store}://bucket/models", "secret": "keys"}})
    volume = {"name": "store-secret", "secret": {"secretName": "keys"}}
    assert readers(made, "store-secret") == dict.fromkeys(READERS, (["/store/secret"], volume))
    assert "envFrom" not in made.text
    assert "subPath" not in made.text, "files of a subPath are never renewed"
    assert made.environment("controller")["CONTROLLER_STORE_SECRET"] == "/store/secret"


@pytest.mark.parametrize(
    ("ca", "source"),
    [
        (
            {"secret": "authorities"},
            {"secret": {"secretName": "authorities", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        ),
        (
            {"configMap": "bundle", "key": "ca-bundle.crt"},
            {"configMap": {"name": "bundle", "items": [{"key": "ca-bundle.crt", "path": "ca-bundle.crt"}]}},
        ),
    ],
)
def test_authorities_and_a_proxy_of_a_store_reach_its_readers_alone(
    render: Render, ca: dict[str, str], source: dict[str, Any]
) -> None:
    proxy = "http://proxy:3128"
    made = render({"models": STORE | {"ca": ca, "proxy": proxy}})
    file = f"/store/ca/{ca.get('key', 'ca.crt')}"
    assert readers(made, "store-ca") == dict.fromkeys(READERS, (["/store/ca"], {"name": "store-ca"} | source))
    for each in pod_of(made, "predictor")["initContainers"]:
        options = [f"--ca={file}", "--max-objects=300000", f"--proxy={proxy}", "--secret=/store/secret"]
        assert each["args"][5:] == options
    environment = made.environment("controller")
    assert (environment["CONTROLLER_STORE_CA"], environment["CONTROLLER_STORE_PROXY"]) == (file, proxy)
    named = {name for name, each in made.containers() if proxy in str(each)}
    assert named == set(READERS)


def test_without_keys_authorities_and_proxy_the_readers_get_none(render: Render) -> None:
    made = render({"models": {"store": "s3", "uri": "s3://bucket/models"}})
    assert "/store/" not in made.text
    names = {name for name in made.environment("controller") if name.startswith("CONTROLLER_STORE_")}
    assert names == {"CONTROLLER_STORE_MAX_OBJECTS"}


def test_the_limit_of_objects_reaches_the_readers(render: Render) -> None:
    made = render({"models": STORE | {"maxObjects": 2_000_000}})
    assert made.environment("controller")["CONTROLLER_STORE_MAX_OBJECTS"] == "2000000"
    for each in pod_of(made, "predictor")["initContainers"]:
        assert "--max-objects=2000000" in each["args"]


def test_a_secret_may_have_a_name_of_digits(render: Render) -> None:
    made = render({"models": STORE | {"secret": "2026", "ca": {"secret": "1e3"}}})
    names = {each.get("secret", {}).get("secretName") for each in pod_of(made, "controller")["volumes"]}
    assert names == {None, "2026", "1e3"}
