"""TLS of each server with certificates of the test: admission, refusal and renewal."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from tritonclient.grpc import service_pb2 as pb

from local.endpoints import free_endpoints
from tests.fakes.scripted.process import COMMAND, ScriptedStage, request, scripted, variables
from triptych.client.upstream import Upstream
from triptych.errors import StageUnavailable
from triptych.protocol.call import Call
from triptych.runtime.settings import StageSettings
from triptych.runtime.tls import upstream_credentials
from triptych.server import SERVERS
from triptych.server.inference_servicer import SERVICE


@pytest.fixture(params=sorted(SERVERS))
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass
class Certificates:
    """An authority, and the files of its certificates."""

    folder: Path
    authority: trustme.CA

    def serve(self, name: str = "server") -> dict[str, str]:
        """Settings of a server. Files are replaced as Kubernetes does it: by symbolic links."""
        issued, draft = self.authority.issue_cert("127.0.0.1"), self.folder / f"{name}.draft"
        settings = {}
        for setting, blob in (("tls_cert", issued.cert_chain_pems[0]), ("tls_key", issued.private_key_pem)):
            blob.write_to_path(draft)
            settings[setting] = str(self.folder / f"{name}.{setting}")
            os.replace(draft, settings[setting])
        return settings

    def trusted(self) -> str:
        path = self.folder / "authority.pem"
        self.authority.cert_pem.write_to_path(path)
        return str(path)

    def caller(self) -> grpc.ChannelCredentials:
        """Credentials that trust the authority and present its certificate."""
        issued = self.authority.issue_cert("caller@here")
        certificates = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        key = issued.private_key_pem.bytes()
        return grpc.ssl_channel_credentials(self.authority.cert_pem.bytes(), key, certificates)

    def outsider(self) -> grpc.ChannelCredentials:
        """Credentials that trust the authority and present no certificate."""
        return grpc.ssl_channel_credentials(self.authority.cert_pem.bytes())


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    (tmp_path / "certificates").mkdir()
    return Certificates(tmp_path / "certificates", trustme.CA())


def refused(stage: ScriptedStage, credentials: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    address = stage.part.address
    made: Any = grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address)
    with made as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(b"", timeout=10)
    raised: Any = caught.value
    code: grpc.StatusCode = raised.code()
    return code


def test_with_a_certificate_only_tls_is_accepted(server: str, tmp_path: Path, certificates: Certificates) -> None:
    with scripted(server, tmp_path, certificates.outsider(), **certificates.serve()) as stage:
        assert stage.infer().id == "1"
        assert refused(stage, None) is grpc.StatusCode.UNAVAILABLE
        assert refused(stage, Certificates(tmp_path, trustme.CA()).outsider()) is grpc.StatusCode.UNAVAILABLE


def test_with_a_client_ca_only_its_callers_are_accepted(
    server: str, tmp_path: Path, certificates: Certificates
) -> None:
    mutual = {**certificates.serve(), "tls_client_ca": certificates.trusted()}
    with scripted(server, tmp_path, certificates.caller(), **mutual) as stage:
        assert stage.infer().id == "1"
        assert refused(stage, certificates.outsider()) is grpc.StatusCode.UNAVAILABLE


def test_a_renewed_certificate_is_served_without_a_restart(
    server: str, tmp_path: Path, certificates: Certificates
) -> None:
    with scripted(server, tmp_path, certificates.outsider(), **certificates.serve()) as stage:
        assert stage.infer().id == "1"
        renewed = Certificates(certificates.folder, trustme.CA())
        renewed.serve()
        reopened: Any = grpc.secure_channel(stage.part.address, renewed.outsider())
        with reopened as channel:
            grpc.channel_ready_future(channel).result(20)
            assert channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=10)


async def test_a_stage_calls_another_with_the_files_of_its_settings(
    server: str, tmp_path: Path, certificates: Certificates
) -> None:
    mutual = {**certificates.serve(), "tls_client_ca": certificates.trusted()}
    own = certificates.serve("caller")
    ours = StageSettings(upstream_ca=certificates.trusted(), upstream_cert=own["tls_cert"], upstream_key=own["tls_key"])

    async def test(settings: StageSettings) -> str:
        upstream = Upstream("s", stage.part.address, SERVICE, relays=True, credentials=upstream_credentials(settings))
        try:
            answer: pb.ModelInferResponse = await upstream.call("ModelInfer", request(), Call.within(10))
            return str(answer.id)
        finally:
            await upstream.close()

    with scripted(server, tmp_path, certificates.caller(), **mutual) as stage:
        assert await test(ours) == "1"
        with pytest.raises(StageUnavailable):
            await test(StageSettings(upstream_ca=certificates.trusted()))


async def test_a_stage_takes_up_what_it_shows_and_trusts_when_it_is_renewed(
    server: str, tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triptych.client.upstream.CERTIFICATE_CHECK_S", 0.0)
    own = certificates.serve("caller")
    ours = StageSettings(upstream_ca=certificates.trusted(), upstream_cert=own["tls_cert"], upstream_key=own["tls_key"])
    port = free_endpoints()["preprocess"].port

    @contextmanager
    def serving(issued: Certificates) -> Iterator[ScriptedStage]:
        """Serve with the current files."""
        mutual = {**issued.serve(), "tls_client_ca": issued.trusted()}
        with scripted(server, tmp_path, issued.caller(), port=port, **mutual) as stage:
            yield stage

    address, credentials = f"127.0.0.1:{port}", upstream_credentials(ours)
    upstream = Upstream("s", address, SERVICE, relays=True, credentials=credentials)
    with serving(certificates):
        await upstream.call("ModelInfer", request(), Call.within(10))
    renewed = Certificates(certificates.folder, trustme.CA())
    with serving(renewed):
        with pytest.raises(StageUnavailable):  # the authority is another, and the certificate still the old one
            await upstream.call("ModelInfer", request(), Call.within(10))
        renewed.serve("caller")
        await upstream.call("ModelInfer", request(), Call.within(10))
    await upstream.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tls_cert": "/no/such.pem", "tls_key": "/no/such.key"}, "cannot read /no/such.key: No such file"),
        ({"tls_cert": "/no/such.pem"}, "SCRIPTED_TLS_KEY: want it together with TLS_CERT"),
        ({"tls_client_ca": "/no/such.pem"}, "SCRIPTED_TLS_CLIENT_CA: want TLS_CERT beside it"),
    ],
)
def test_files_that_are_missing_stop_the_start(server: str, settings: dict[str, str], said: str) -> None:
    ended = subprocess.run(
        COMMAND, env=variables(server, port=0, **settings), capture_output=True, text=True, timeout=60
    )
    assert ended.returncode in (1, 2)
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def client_hello(name: bytes) -> bytes:
    """The first bytes of a client that asks for a server of this name, which Python's own client would refuse."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    stand_in = "a" * len(name)
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=stand_in).do_handshake()
    return outgoing.read().replace(stand_in.encode(), name)


def test_server_names_that_are_no_text_fill_no_log(tmp_path: Path, certificates: Certificates) -> None:
    """Python wrote a traceback for each (2026-11-29)."""
    with scripted("http2", tmp_path, certificates.outsider(), **certificates.serve()) as stage:
        for _ in range(20):
            with stage.connect() as connection:
                connection.sendall(client_hello(b"\xff" * 20))
                connection.recv(100)
        assert stage.infer().id == "1"
        lines = stage.part.log.read_text().splitlines()
        assert "Traceback" not in "".join(lines)
        assert [json.loads(line)["message"] for line in lines].count("exception ignored") == 1
