"""A bucket prefix for models in the S3 store of the development cluster."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from obstore.store import S3Store

from local.environments import ROOT
from tests.e2e.kubectl import Kubectl
from tests.fakes.tcp_relay import Relay

MODELS = ROOT / "model-repository"
NAMESPACE, NAME, BUCKET = "storage", "s3", "models"
REGION = "us-east-1"


@dataclass(frozen=True)
class Bucket:
    """A prefix in a bucket, for one test, behind a relay that can be cut."""

    uri: str
    store: S3Store
    relay: Relay
    keys: dict[str, str]

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables for a process on this machine, through the relay."""
        return self.keys | {"AWS_REGION": REGION, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.relay.port}"}

    @property
    def endpoint(self) -> str:
        """Endpoint of the store for a pod."""
        return f"http://{NAME}.{NAMESPACE}:9000"

    def upload(self, model: str, version: int = 1) -> None:
        """Upload the files of an example model as a version, the contract last."""
        for path, file in files_of(model, version):
            self.store.put(f"{model}/{path}", file)


def files_of(model: str, version: int = 1) -> Iterator[tuple[str, Path]]:
    """Paths and files of an example model as a version, the contract last."""
    yield "config.pbtxt", MODELS / model / "config.pbtxt"
    for file in sorted((MODELS / model / "1").iterdir(), reverse=True):
        yield f"{version}/{file.name}", file


@contextmanager
def new_bucket(kubeconfig: Path) -> Iterator[Bucket]:
    """Create an empty prefix and delete it at the end. Skips the test if there is no store."""
    kubectl = Kubectl(kubeconfig, NAMESPACE)
    if kubectl.run("get", "service", NAME, check=False).returncode:
        pytest.skip("needs the object store: cluster up --with s3")
    keys = {
        name: base64.b64decode(value).decode()
        for name, value in kubectl.get("secret", "s3-credentials")["data"].items()
    }
    spec = kubectl.get("service", NAME)["spec"]
    address, port = spec["clusterIP"], spec["ports"][0]["port"]
    relay, prefix = Relay(address, port), f"e2e-{uuid.uuid4().hex[:8]}"
    store = S3Store(
        BUCKET,
        prefix=prefix,
        endpoint=f"http://{address}:{port}",
        access_key_id=keys["AWS_ACCESS_KEY_ID"],
        secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        region=REGION,
        client_options={"allow_http": True},
    )
    yield Bucket(f"s3://{BUCKET}/{prefix}", store, relay, keys)
    relay.close()
    store.delete([meta["path"] for meta in store.list().collect()])
