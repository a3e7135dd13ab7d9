"""The settings of the controller."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from controller.call_slots import Reservation
from controller.catalog.store.uri import is_uri, split
from controller.placement.settings import Limits
from triptych.runtime.addresses import address_argument, pod_address
from triptych.runtime.settings import StageSettings


class Settings(StageSettings, Limits):
    """controller: models, contracts and traffic for the stages, and what Triton has loaded."""

    model_config = SettingsConfigDict(env_prefix="CONTROLLER_", frozen=True, extra="forbid")

    port: int = Field(9002, ge=0, le=65535, description="gRPC port")
    metrics_port: int = Field(9102, ge=0, le=65535, description="port of the Prometheus endpoint; 0 switches it off")
    model_repository: Annotated[str, BeforeValidator(str)] = Field(
        "model-repository",
        description="folder of the models, or s3://bucket/prefix, gs://bucket/prefix: Triton's layout, with a "
        "contract.yaml per version; the usual AWS_* and GOOGLE_* variables say where a store is and who asks",
    )
    mirror: Path | None = Field(
        None, description="folder for what is read of a store; unset: one in the user's cache; kept over restarts"
    )
    seal: Literal["content", "time"] = Field(
        "content",
        description="what tells whether a published version changed: the sha256 of its files, for which each is read "
        "once at the start; or their size and time alone, which say nothing over a restart, where that takes too long",
    )
    max_file_bytes: int = Field(1 << 20, ge=1024, description="largest config.pbtxt or contract.yaml")
    max_document_bytes: int = Field(64 << 10, ge=1024, description="largest file of ServedModel documents")
    max_files: int = Field(10_000, ge=1, description="most files of one version")
    max_row_bytes: int = Field(
        64 << 20, ge=1024, description="largest row of a tensor that a contract may declare or make by a resize"
    )
    trial_s: float = Field(10.0, gt=0, description="most seconds of a contract's trial on made-up rows")
    served_models: Path | None = Field(
        None,
        description="folder of ServedModel documents (*.yaml); unset: highest versions are served",
    )
    serve_undeclared: bool = Field(
        True, description="serve a model without a document, by its highest valid version; false keeps it out"
    )
    poll_s: float = Field(
        2.0,
        gt=0,
        description="seconds between two looks at the models; what is new has to rest that long, or 1 s at most "
        "when a document asks for it",
    )
    triton: str = Field(
        "127.0.0.1:8001",
        description="gRPC addresses of the Tritons, separated by commas; a name stands for all its addresses",
    )
    triton_metrics_port: int = Field(
        8002, ge=0, le=65535, description="port of each Triton's metrics, for the memory of its GPUs; 0: do not ask"
    )
    triton_key: str = Field(
        "",
        repr=False,
        description="what the Tritons want from who loads models: the VALUE of their option "
        "--grpc-restricted-protocol=model-repository:key=VALUE",
    )
    sync_s: float = Field(1.0, gt=0, description="seconds between two looks at what each Triton has ready")
    kubernetes: bool = Field(
        False, description="follow ServedModel objects in Kubernetes instead of documents in a folder"
    )
    namespace: str = Field("", description="of the ServedModels and of the lease; empty: the pod's own")
    lease: str = Field("triptych-controller", description="Lease by which one of several replicas leads")
    identity: str = Field(
        "controller_127.0.0.1:9002",
        pattern=r"^[^_]+_[^_]+:[0-9]+$",
        description="this replica as <pod>_<host:port>: how the others reach it when it leads",
    )
    replica_name: str = Field(
        "", description="name in the certificate of the replica that leads; empty: the host of its address"
    )
    kubeconfig: Path | None = Field(None, description="file with the way to the cluster; unset: the pod's own account")
    max_watchers: int = Field(1024, ge=1, description="streams that follow the catalog, one for each preprocess")
    max_watchers_per_peer: int = Field(
        256,
        ge=1,
        description="of them from one host, so that one cannot keep new pods out; a proxy before the controller is "
        "one host",
    )
    max_loads_per_peer: int = Field(
        256, ge=1, description="calls of one host that wait for loads, of CONTROLLER_MAX_IN_FLIGHT in all"
    )
    stage_names: str = Field(
        "",
        description="names in the certificates of stages, separated by commas, that tell them from other callers with "
        "mutual TLS; empty: callers are not told apart and nothing is reserved",
    )
    reserved_percent: int = Field(
        50,
        ge=0,
        le=99,
        description="share of max_watchers, and of max_in_flight calls that wait for loads, for callers with one of "
        "stage_names alone",
    )

    @field_validator("triton")
    @classmethod
    def _has_addresses(cls, text: str) -> str:
        addresses = _split(text)
        for address in addresses:
            address_argument(address)
        if not addresses or len(set(addresses)) != len(addresses):
            raise ValueError("want at least one address, each of them once")
        return text

    @field_validator("identity")
    @classmethod
    def _can_be_called(cls, text: str) -> str:
        """Kubernetes writes an IPv6 address of a pod without brackets."""
        pod, _, address = text.partition("_")
        return f"{pod}_{pod_address(address)}"

    @field_validator("stage_names")
    @classmethod
    def _are_verified(cls, text: str, info: ValidationInfo) -> str:
        """Without the authorities of callers no certificate is asked for."""
        if text and not info.data.get("tls_client_ca"):
            raise ValueError("want TLS_CLIENT_CA beside it")
        return text

    @field_validator("model_repository")
    @classmethod
    def _is_folder_or_store(cls, text: str) -> str:
        if is_uri(text):
            split(text)
        return text

    @model_validator(mode="after")
    def _documents_come_from_one_place(self) -> Self:
        if self.kubernetes and self.served_models is not None:
            raise ValueError("either CONTROLLER_KUBERNETES or CONTROLLER_SERVED_MODELS, not both")
        return self

    @property
    def reservation(self) -> Reservation:
        """Places that are kept for the stages."""
        return Reservation(frozenset(_split(self.stage_names)), self.reserved_percent)

    @property
    def predictors(self) -> tuple[str, ...]:
        """Addresses of the Tritons."""
        return _split(self.triton)


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
