"""An S3 store in the namespace of a test: TLS by an authority of the test, and accounts that come and go."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import trustme
from obstore.store import S3Store

from tests.e2e import bucket
from tests.e2e.bucket import BUCKET, REGION
from tests.e2e.kubectl import Kubectl, wait_for

NAME, PORT = "own-store", 9443
ROOT = {"ROOT_ACCESS_KEY_ID": "root", "ROOT_SECRET_ACCESS_KEY": uuid.uuid4().hex}


@dataclass(frozen=True)
class OwnStore:
    """A Versity gateway at `endpoint` for pods, with the files of models in the folder `eu` of its bucket."""

    kubectl: Kubectl
    authority: trustme.CA
    address: str
    uri: str = f"s3://{BUCKET}/eu"

    @property
    def endpoint(self) -> str:
        return f"https://{NAME}.{self.kubectl.namespace}.svc:{PORT}"

    def upload(self, model: str, version: int = 1) -> None:
        """Upload the files of an example model as a version, the contract last."""
        store = S3Store(
            BUCKET,
            prefix="eu",
            endpoint=f"https://{self.address}:{PORT}",
            access_key_id=ROOT["ROOT_ACCESS_KEY_ID"],
            secret_access_key=ROOT["ROOT_SECRET_ACCESS_KEY"],
            region=REGION,
            client_options={"root_certificate": self.authority.cert_pem.bytes()},
        )
        for path, file in bucket.files_of(model, version):
            store.put(f"{model}/{path}", file)

    def create_account(self, name: str) -> dict[str, str]:
        """An account that may read and write; its variables."""
        secret = uuid.uuid4().hex
        self.admin("create-user", "--access", name, "--secret", secret, "--role", "admin")
        return {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": secret}

    def delete_account(self, name: str) -> None:
        self.admin("delete-user", "--access", name)

    def admin(self, *arguments: str, check: bool = True) -> str:
        """Output of a command of the store's administrator."""
        keys = ("--access", ROOT["ROOT_ACCESS_KEY_ID"], "--secret", ROOT["ROOT_SECRET_ACCESS_KEY"])
        at = ("--endpoint-url", f"https://127.0.0.1:{PORT}", "--region", REGION, "--allow-insecure")
        command = ("versitygw", "admin", *at, *keys, *arguments)
        return self.kubectl.run("exec", f"deployment/{NAME}", "--", *command, check=check).stdout


def start(kubectl: Kubectl) -> OwnStore:
    """Start a store with an empty bucket. Skips the test if the cluster has no image of one."""
    installed = kubectl.run(
        "--namespace", bucket.NAMESPACE, "get", "deployment", bucket.NAME, "--output=json", check=False
    )
    if installed.returncode:
        pytest.skip("needs the image of an object store: cluster up --with s3")
    image = json.loads(installed.stdout)["spec"]["template"]["spec"]["containers"][0]["image"]
    kubectl.apply(json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME}, "spec": SERVICE}))
    address = str(kubectl.get("service", NAME)["spec"]["clusterIP"])
    authority = trustme.CA()
    store = OwnStore(kubectl, authority, address)
    names = [f"{NAME}.{kubectl.namespace}.svc", address, "127.0.0.1"]
    kubectl.apply("\n---\n".join(map(json.dumps, _objects(image, authority.issue_cert(*names)))))
    kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=50s")
    wait_for(lambda: _has_bucket(store), "the bucket is there")
    return store


def _has_bucket(store: OwnStore) -> bool:
    """Create the bucket unless it is there."""
    found = store.admin("list-buckets", check=False).split()
    if BUCKET not in found:
        store.admin("create-bucket", "--bucket", BUCKET, "--owner", ROOT["ROOT_ACCESS_KEY_ID"], check=False)
    return BUCKET in found


LABELS = {"app": NAME}
SERVICE = {"selector": LABELS, "ports": [{"port": PORT, "targetPort": PORT}]}


def _objects(image: str, certificate: trustme.LeafCert) -> Iterator[dict[str, object]]:
    certificates = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
    files = {"tls.crt": certificates, "tls.key": certificate.private_key_pem.bytes()}
    data = {name: base64.b64encode(content).decode() for name, content in files.items()}
    yield {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}, "data": data, "stringData": ROOT}
    key = {name: {"secretKeyRef": {"name": NAME, "key": name}} for name in ROOT}
    security = {"runAsNonRoot": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    arguments = ["--port", f":{PORT}", "--cert", "/tls/tls.crt", "--key", "/tls/tls.key", "--region", REGION]
    container = {
        "name": "store",
        "image": image,
        "args": [*arguments, "--iam-dir", "/data/accounts", "--iam-cache-disable", "posix", "/data/objects"],
        "env": [{"name": name, "valueFrom": source} for name, source in key.items()],
        "resources": dict.fromkeys(
            ("requests", "limits"), {"cpu": "50m", "memory": "128Mi", "ephemeral-storage": "1Gi"}
        ),
        "securityContext": security | {"runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "data", "mountPath": "/data/objects", "subPath": "objects"},
            {"name": "data", "mountPath": "/data/accounts", "subPath": "accounts"},
            {"name": "tls", "mountPath": "/tls"},
        ],
    }
    volumes = [{"name": "data", "emptyDir": {}}, {"name": "tls", "secret": {"secretName": NAME}}]
    pod = {"containers": [container], "volumes": volumes, "securityContext": {"fsGroup": 65532}}
    template = {"metadata": {"labels": LABELS}, "spec": pod}
    spec = {"selector": {"matchLabels": LABELS}, "template": template}
    yield {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME}, "spec": spec}
