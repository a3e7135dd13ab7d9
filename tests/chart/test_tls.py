"""TLS: mounts, settings, names of the certificate, and contradictions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.objects import Object, Objects, Render, with_process
from tools.chart.program import APIS, ProgramFailed

STAGES = ("preprocess", "postprocess", "controller")
MODES = ("Standard", "Grouped", "Deployment")
ISSUER = {"name": "ca", "kind": "ClusterIssuer"}
SERVED = {"TLS_CERT": "/tls/tls.crt", "TLS_KEY": "/tls/tls.key", "UPSTREAM_CA": "/tls/ca.crt"}
SHOWN = {"TLS_CLIENT_CA": "/tls/ca.crt", "UPSTREAM_CERT": "/tls/tls.crt", "UPSTREAM_KEY": "/tls/tls.key"}


def with_secret(tls: str, **more: Any) -> dict[str, Any]:
    return {"tls": {"mode": tls, "secret": "certificates"}, **more}


def tls_settings(made: Objects, stage: str) -> dict[str, str]:
    prefix = f"{stage.upper()}_"
    named = {name.removeprefix(prefix): value for name, value in made.environment(stage).items()}
    return {name: value for name, value in named.items() if name.startswith(("TLS_", "UPSTREAM_"))}


def mounts(container: Object) -> dict[str, Object]:
    return {each["mountPath"]: each for each in container.get("volumeMounts", ())}


def pod_with(made: Objects, container: Object) -> Object:
    return next(pod for _, pod in made.pods() if container in pod["containers"])


def test_without_it_nothing_of_it_is_there(render: Render) -> None:
    made = render({"backend": {"enabled": True}})
    assert "/tls" not in made.text
    variables = {each["name"] for _, container in made.containers() for each in container.get("env", ())}
    assert not [name for name in variables if name.endswith("_CA") or "_TLS_" in name]
    assert not made.of("Certificate")
    assert made.container("preprocess")["readinessProbe"]["grpc"] == {"port": 9000, "service": ""}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("tls", "wanted"), [("tls", SERVED), ("mutual", SERVED | SHOWN)])
def test_every_stage_serves_and_calls_with_the_files_of_the_secret(
    render: Render, mode: str, tls: str, wanted: dict[str, str]
) -> None:
    made = render(with_secret(tls, mode=mode))
    for stage in with_process(mode, STAGES):
        assert tls_settings(made, stage) == wanted, stage
        container = made.container(stage)
        assert mounts(container)["/tls"] == {"name": "tls", "mountPath": "/tls", "readOnly": True}
        volumes = {each["name"]: each for each in pod_with(made, container)["volumes"]}
        assert volumes["tls"]["secret"] == {"secretName": "certificates"}
    assert "/tls" not in mounts(made.container("predictor")), "Triton is called in plaintext"


@pytest.mark.parametrize("mode", MODES)
def test_probes_use_the_port_of_the_metrics_which_has_no_tls(render: Render, mode: str) -> None:
    made = render(with_secret("mutual", mode=mode))
    for stage in with_process(mode, STAGES):
        container = made.container(stage)
        (metrics,) = (each["containerPort"] for each in container["ports"] if each["name"] == "metrics")
        assert container["startupProbe"]["httpGet"] == {"path": "/live", "port": metrics}
        assert container["livenessProbe"]["httpGet"] == {"path": "/live", "port": metrics}
        assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": metrics}
        assert "grpc" not in container["readinessProbe"]
    assert made.container("predictor")["readinessProbe"]["grpc"] == {"port": 8001, "service": ""}


@pytest.mark.parametrize("prefix", ["", "blue"])
def test_the_certificate_has_a_common_name_which_some_issuers_demand(render: Render, prefix: str) -> None:
    """cert-manager/cert-manager#4965"""
    values = {"tls": {"mode": "tls", "issuer": ISSUER}, "fullnameOverride": prefix}
    spec = render(values).one("Certificate", f"{prefix}-tls" if prefix else "tls")["spec"]
    assert spec["commonName"] in spec["dnsNames"]
    assert len(spec["commonName"]) <= 64


def test_services_say_whether_their_ports_are_plaintext(render: Render) -> None:
    """istio/istio#16282: by the name grpc alone Istio takes TLS for HTTP/2."""
    names = {"preprocess", "preprocess-pods", "postprocess", "controller"}
    for values, wanted in (({}, "kubernetes.io/h2c"), (with_secret("tls"), "https"), (with_secret("mutual"), "https")):
        services = render(values).of("Service")
        assert {services[name]["spec"]["ports"][0]["appProtocol"] for name in names} == {wanted}


def test_kserve_makes_no_ingress_without_a_server_behind_it(render: Render) -> None:
    labels = render(with_secret("tls")).one("InferenceService", "preprocess")["metadata"]["labels"]
    assert labels["networking.kserve.io/visibility"] == "cluster-local"


@pytest.mark.parametrize("tls", ["tls", "mutual"])
def test_every_caller_beside_the_stages_has_the_authority_and_a_key_only_to_show_a_certificate(
    render: Render, tls: str
) -> None:
    made = render(with_secret(tls, mode="Deployment", backend={"enabled": True}))
    callers = {name: each for name, each in made.containers() if name.startswith("Pod/") or "backend/" in name}
    assert len(callers) == 8, "seven checks of helm test and the backend"
    for name, container in callers.items():
        given = {each["name"]: each.get("value") for each in container["env"]}
        if "test-backend" in name:
            continue  # it calls the backend, over HTTP
        prefix = "BACKEND_PREPROCESS_" if "backend/" in name else "TLS_"
        files = {name.removeprefix(prefix): file for name, file in given.items() if name.startswith(prefix)}
        shown = {"CERT": "/tls/tls.crt", "KEY": "/tls/tls.key"} if tls == "mutual" else {}
        assert files == {"CA": "/tls/ca.crt"} | shown, name
        assert mounts(container)["/tls"]["readOnly"] is True
        (secret,) = (each["secret"] for each in pod_with(made, container)["volumes"] if each["name"] == "tls")
        assert ("items" not in secret) is (tls == "mutual"), "no private key without need"
        assert secret.get("items", [{}])[0].get("key", "ca.crt") == "ca.crt"


@pytest.mark.parametrize("mode", MODES)
def test_the_certificate_has_every_name_that_a_stage_is_called_by(render: Render, mode: str) -> None:
    made = render({"mode": mode, "fullnameOverride": "two", "tls": {"mode": "mutual", "issuer": ISSUER}})
    spec = made.one("Certificate", "two-tls")["spec"]
    assert spec["issuerRef"] == ISSUER
    assert {"server auth", "client auth"} <= set(spec["usages"])
    for stage in with_process(mode, STAGES):
        volumes = {each["name"]: each for each in pod_with(made, made.container(stage))["volumes"]}
        assert volumes["tls"]["secret"]["secretName"] == spec["secretName"]
    names = set(spec["dnsNames"])
    ports = {9000, 9001, 9002}
    served = {name for name, each in made.of("Service").items() if each["spec"]["ports"][0]["port"] in ports}
    assert len(served) == (3 if mode == "Grouped" else 4)
    for name in served:
        assert {name, f"{name}.triptych", f"{name}.triptych.svc", f"{name}.triptych.svc.cluster.local"} <= names
    called = [made.environment("preprocess")["PREPROCESS_CONTROLLER"]]
    if mode != "Grouped":
        called.append(made.environment("preprocess")["PREPROCESS_POSTPROCESS"])
        called.append(made.environment("postprocess")["POSTPROCESS_CONTROLLER"])
    assert {address.rpartition(":")[0] for address in called} <= names
    # Replicas call their leader by its pod's address, which no certificate bears.
    assert made.environment("controller")["CONTROLLER_REPLICA_NAME"] in names


def test_the_certificate_has_more_names_by_value(render: Render) -> None:
    tls = {"mode": "tls", "issuer": ISSUER}
    own, more = (
        render({"tls": tls | each}).one("Certificate", "tls")["spec"]["dnsNames"]
        for each in ({}, {"dnsNames": ["api.example.com", "*.example.com"]})
    )
    assert more == [*own, "api.example.com", "*.example.com"]


def test_the_services_that_kserve_makes_are_among_the_names(render: Render) -> None:
    names = render({"tls": {"mode": "tls", "issuer": ISSUER}}).one("Certificate", "tls")["spec"]["dnsNames"]
    assert {"preprocess-predictor", "postprocess-predictor"} <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("values", "reserved"),
    [
        (with_secret("mutual"), True),
        (with_secret("mutual", fullnameOverride="two"), True),
        (with_secret("mutual", mode="Deployment", controller={"settings": {"server": "grpcio"}}), True),
        (with_secret("tls"), False),
        ({}, False),
    ],
    ids=str,
)
def test_the_controller_reserves_slots_for_the_stages_where_it_sees_their_certificates(
    render: Render, values: dict[str, Any], reserved: bool
) -> None:
    names = render(values).environment("controller").get("CONTROLLER_STAGE_NAMES", "")
    prefix = "two-" if "fullnameOverride" in values else ""
    assert names == (f"{prefix}preprocess,{prefix}controller" if reserved else "")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"tls": {"mode": "mutual"}}, "tls.mode is mutual, and neither tls.secret names a Secret"),
    ({"tls": {"mode": "tls", "secret": "a", "issuer": ISSUER}}, "tls.secret and tls.issuer are both set"),
    ({"tls": {"secret": "a"}}, "tls.secret is set and tls.mode is none"),
    ({"tls": {"issuer": ISSUER}}, "tls.issuer is set and tls.mode is none"),
    ({"tls": {"mode": "tls", "issuer": {"kind": "Issuer"}}}, "tls.issuer has no name"),
    ({"tls": {"mode": "tls", "issuer": {"nmae": "a"}}}, "nmae"),
    ({"tls": {"mode": "tls", "secret": "a", "dnsNames": ["b"]}}, "tls.dnsNames is set and tls.issuer is not"),
    ({"tls": {"mode": "mtls", "secret": "a"}}, "value must be one of 'none', 'tls', 'mutual'"),
    (with_secret("tls", mode="Knative"), "preprocess is in Knative mode, whose queue-proxy speaks plaintext"),
    (with_secret("tls", postprocess={"mode": "Knative"}), "postprocess is in Knative mode"),
    (
        with_secret("tls", gateway={"enabled": True, "parents": [{"name": "a"}], "hostnames": ["*"]}),
        "end TLS at the gateway",
    ),
    (
        with_secret("tls", canary={"enabled": True, "preprocess": {"replicas": 1}}),
        "leave the gateway, and the canary that it splits, out",
    ),
    ({"preprocess": {"settings": {"tls_cert": "/x"}}}, "preprocess.settings.tls_cert: the chart sets this itself"),
    ({"controller": {"settings": {"replica_name": "x"}}}, "controller.settings.replica_name: the chart sets"),
    (
        {"backend": {"enabled": True, "settings": {"preprocess_ca": "/x"}}},
        "backend.settings.preprocess_ca: the chart sets this itself",
    ),
]


@pytest.mark.parametrize(("values", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_what_cannot_be_encrypted_as_asked_is_refused(render: Render, values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ProgramFailed) as refused:
        render(values)
    assert sentence in str(refused.value)


def test_without_cert_manager_a_secret_of_ones_own_works(render: Render) -> None:
    there = tuple(api for api in APIS if api != "cert-manager.io/v1")
    with pytest.raises(ProgramFailed, match=r"cert-manager\.io/v1.*tls\.secret works without"):
        render({"tls": {"mode": "tls", "issuer": ISSUER}}, apis=there)
    assert not render(with_secret("tls"), apis=there).of("Certificate")
