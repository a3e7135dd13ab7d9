"""Mutual TLS on a cluster: only callers with a certificate are admitted, and renewals need no restart."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from ruamel.yaml import YAML
from tritonclient.grpc import service_pb2 as pb

from tests.e2e.conftest import Figure
from tests.e2e.kubectl import Kubectl, wait_for
from tests.e2e.release import STAGES, START_S, Release
from tests.integration.conftest import INFER
from tests.integration.messages import infer_request, outputs_of, sales
from tools.chart import program
from triptych.protocol import controller_pb2 as cp

SALES = infer_request("sales_forecast_de", sales())
SECRET = "certificates"
VALUES: dict[str, Any] = {
    "tls": {"mode": "mutual", "secret": SECRET},
    "gateway": {"enabled": False},
    "backend": {"enabled": True},
    "controller": {"replicas": 2},
}


@dataclass
class Served:
    """A release that requires certificates of one authority, and the files of a caller."""

    release: Release
    authority: trustme.CA
    folder: Path
    names: list[str]

    def issue(self) -> bytes:
        """Write a new certificate into the Secret and return it in DER."""
        issued = self.authority.issue_cert(*self.names)
        files = {
            "tls.crt": issued.cert_chain_pems[0].bytes(),
            "tls.key": issued.private_key_pem.bytes(),
            "ca.crt": self.authority.cert_pem.bytes(),
        }
        data = {name: base64.b64encode(text).decode() for name, text in files.items()}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "data": data}
        self.release.kubectl.apply(json.dumps(secret))
        return ssl.PEM_cert_to_DER_cert(files["tls.crt"].decode())

    def credentials(self, certificate: bool = True) -> grpc.ChannelCredentials:
        issued = self.authority.issue_cert("caller@outside")
        own = (issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes()) if certificate else (None, None)
        return grpc.ssl_channel_credentials(self.authority.cert_pem.bytes(), *own)

    def ask(self, credentials: grpc.ChannelCredentials | None) -> pb.ModelInferResponse:
        """Request a forecast; credentials of None mean plaintext."""
        options = [("grpc.ssl_target_name_override", "preprocess")]
        address = self.release.service().address
        made: Any = (
            grpc.secure_channel(address, credentials, options) if credentials else grpc.insecure_channel(address)
        )
        with made as channel:
            return pb.ModelInferResponse.FromString(channel.unary_unary(INFER)(SALES.SerializeToString(), timeout=30))

    def shows(self, address: tuple[str, int], certificate: bytes) -> bool:
        """Whether a stage presents this certificate, in DER."""
        context = ssl.create_default_context(cadata=self.authority.cert_pem.bytes().decode())
        context.set_alpn_protocols(["h2"])
        self.authority.issue_cert("looker@outside").configure_cert(context)
        plain = socket.create_connection(address, 10)
        with context.wrap_socket(plain, server_hostname="preprocess") as made:
            return made.getpeercert(binary_form=True) == certificate


def _names(release: Release) -> list[str]:
    """DNS names that the chart requests from cert-manager."""
    values = {"mode": release.mode, "tls": {"mode": "mutual", "issuer": {"name": "a"}}}
    options = [f"--set-json={name}={json.dumps(value)}" for name, value in values.items()]
    text = program.template(*options, namespace=release.kubectl.namespace)
    objects = [each for each in YAML(typ="safe", pure=True).load_all(text) if each]
    (certificate,) = (each for each in objects if each["kind"] == "Certificate")
    return list(certificate["spec"]["dnsNames"])


@pytest.fixture(scope="module")
def served(new_release: Callable[[str, str], Release], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    release = new_release("tls", "Deployment")
    made = Served(release, trustme.CA(), tmp_path_factory.mktemp("certificates"), _names(release))
    made.issue()
    release.apply(VALUES)
    for component in (*STAGES, "backend"):
        release.wait_until_settled(component)
    release.wait_until_settled("controller", 2)
    yield made
    release.uninstall()


def code_without(served: Served, credentials: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        served.ask(credentials)
    raised: Any = caught.value
    code: grpc.StatusCode = raised.code()
    return code


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_every_helm_test_passes_over_mutual_tls(served: Served) -> None:
    said = served.release.helm_test()
    assert said.count("TEST SUITE:     test-") == said.count("Succeeded") - 1 == 7, said


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_only_a_caller_with_a_certificate_gets_an_answer(served: Served) -> None:
    assert len(outputs_of(served.ask(served.credentials()))["units"][0]) == 7
    assert code_without(served, served.credentials(certificate=False)) is grpc.StatusCode.UNAVAILABLE
    assert code_without(served, None) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_replica_that_does_not_lead_passes_a_load_on_to_the_address_of_the_leader(served: Served) -> None:
    load = cp.EnsureLoadedRequest(model="sales_forecast_fr", version=1).SerializeToString()
    options = [("grpc.ssl_target_name_override", "controller")]
    pods = served.release.pods("controller")
    assert len(pods) == 2
    for pod in pods:
        address = f"{pod['status']['podIP']}:9002"
        with grpc.secure_channel(address, served.credentials(), options) as channel:
            asked: Any = channel.unary_unary("/triptych.v1.Controller/EnsureLoaded")
            assert cp.EnsureLoadedReply.FromString(asked(load, timeout=60)).predictors


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_in_the_pod_of_the_controller_top_needs_no_options(served: Served) -> None:
    command = ("python", "-m", "triptych_cli", "top", "--once", "--json")
    frame = json.loads(served.release.kubectl("exec", "deployment/controller", "--", *command))
    assert [each["answers"] for each in frame["predictors"]] == [True]


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_a_renewed_secret_is_served_by_the_same_pods(served: Served, figure: Figure) -> None:
    release = served.release
    stages = {"preprocess": 9000, "postprocess": 9001, "controller": 9002}
    addresses = [(pod["status"]["podIP"], port) for stage, port in stages.items() for pod in release.pods(stage)]
    pods = {stage: release.uids(stage) for stage in stages}
    start, renewed = time.monotonic(), served.issue()
    for address in addresses:
        wait_for(partial(served.shows, address, renewed), f"{address} shows the new certificate", START_S)
    figure(f"{time.monotonic() - start:.0f} s until all {len(addresses)} pods showed the new certificate")
    assert served.ask(served.credentials()).model_name == "sales_forecast_de"
    assert {stage: release.uids(stage) for stage in stages} == pods
    after = [pod["status"]["containerStatuses"] for stage in stages for pod in release.pods(stage)]
    assert [each["restartCount"] for statuses in after for each in statuses] == [0] * len(addresses)


def test_a_secret_that_cert_manager_did_not_make_is_not_overwritten(kubectl: Kubectl) -> None:
    if program.find() is None:
        pytest.skip("needs helm on the PATH")
    release = Release(kubectl, "any", "Deployment")
    values = {"mode": "Deployment", "tls": {"mode": "tls", "issuer": {"name": "ca"}}}

    def refusal() -> str:
        options = ("--dry-run=server", "--kube-version=1.34", "--api-versions=cert-manager.io/v1", "--values=-")
        return release.helm(
            "template", "triptych", str(program.CHART), *options, given=json.dumps(values), check=False
        ).stderr

    assert refusal() == ""
    kubectl("create", "secret", "generic", "tls", "--from-literal=tls.crt=mine")
    assert "Secret tls exists, which cert-manager did not make for this release" in refusal()
    kubectl("annotate", "secret", "tls", "cert-manager.io/certificate-name=tls")
    assert refusal() == ""
