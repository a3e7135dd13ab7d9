"""The settings of the controller."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from controller.call_slots import Reservation
from controller.catalog.builder import Undeclared
from controller.placement.settings import PlacementSettings
from controller.store.options import MAX_OBJECTS, StoreOptions, proxy_url
from controller.store.uri import is_uri, split
from triptych.contract.steps.step_file import MAX_STEP_FILE_BYTES
from triptych.runtime.addresses import address_argument, pod_address
from triptych.runtime.faults import in_words
from triptych.runtime.settings import StageSettings


class Settings(StageSettings, PlacementSettings):
    """controller: models, contracts and traffic for the stages, and the placement of models on predictors."""

    model_config = SettingsConfigDict(env_prefix="CONTROLLER_", frozen=True, extra="forbid")

    port: int = Field(9002, ge=0, le=65535, description="gRPC port")
    metrics_port: int = Field(9102, ge=0, le=65535, description="port of the Prometheus endpoint; 0 switches it off")
    model_repository: Annotated[str, BeforeValidator(str)] = Field(
        "model-repository",
        description="folder of the models, or s3://bucket/prefix, gs://bucket/prefix: Triton's layout, with a "
        "contract.yaml per version; the usual AWS_* and GOOGLE_* variables configure a store",
    )
    mirror: Path | None = Field(
        None, description="folder for the files of a store, kept over restarts; unset: one in the user's cache"
    )
    store_secret: Path | None = Field(
        None,
        description="folder with a file for each variable of the store, as Kubernetes mounts a Secret; it is read "
        "before each listing, and a variable of the environment wins",
    )
    store_ca: Path | None = Field(
        None, description="file of authorities (PEM) that the store is trusted by, beside the public ones"
    )
    store_proxy: Annotated[str, AfterValidator(proxy_url)] = Field(
        "",
        repr=False,
        description="proxy for the store, as http://host:port; empty: none, for no call uses the proxy of the "
        "environment",
    )
    store_max_objects: int = Field(
        MAX_OBJECTS, ge=1, description="most objects of the store below its prefix; each takes half a kilobyte"
    )
    change_detection: Literal["content", "time"] = Field(
        "content",
        description="how a change of a published version is detected: content compares the sha256 of its files, which "
        "reads each file once at the start; time compares size and time only, and detects no change over a restart",
    )
    max_file_bytes: int = Field(1 << 20, ge=1024, description="largest config.pbtxt or contract.yaml")
    max_document_bytes: int = Field(64 << 10, ge=1024, description="largest file of ServedModel documents")
    max_step_file_bytes: int = Field(
        MAX_STEP_FILE_BYTES,
        ge=1024,
        le=1 << 30,
        description="size of all files of a version that steps read, such as a tokenizer.json; stages fetch them, "
        "so their MAX_MESSAGE_BYTES has to be larger",
    )
    max_files: int = Field(10_000, ge=1, description="most files of one version")
    max_row_bytes: int = Field(
        64 << 20, ge=1024, description="largest row of a tensor that a contract may declare or make by a resize"
    )
    trial_s: float = Field(10.0, gt=0, description="most seconds of the trial run of a contract on made-up rows")
    served_models: Path | None = Field(
        None,
        description="folder of ServedModel documents (*.yaml); unset: CONTROLLER_UNDECLARED decides",
    )
    undeclared: Undeclared = Field(
        "lowest",
        description="the valid version that serves a model without a document: with lowest, a new version waits for "
        "a document before it takes traffic; with highest, it takes all at once; none: the model is not served",
    )
    poll_s: float = Field(
        2.0,
        gt=0,
        description="seconds between two scans of the models; a new version must be unchanged that long, or for 1 s "
        "if a document names it",
    )
    triton: str = Field(
        "127.0.0.1:8001",
        description="gRPC addresses of the predictors, separated by commas; a name stands for all its addresses",
    )
    triton_metrics_port: int = Field(
        8002,
        ge=0,
        le=65535,
        description="port of the metrics of each predictor, for the memory of its GPUs; 0: do not ask",
    )
    triton_key: str = Field(
        "",
        repr=False,
        description="key of the predictors for loads and unloads: the VALUE of their option "
        "--grpc-restricted-protocol=model-repository:key=VALUE",
    )
    sync_s: float = Field(1.0, gt=0, description="seconds between two checks of the ready models of each predictor")
    kubernetes: bool = Field(
        False, description="watch ServedModel objects in Kubernetes instead of documents in a folder"
    )
    namespace: str = Field("", description="namespace of the ServedModels and of the lease; empty: that of the pod")
    release: str = Field(
        "",
        pattern=in_words(r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$", "small letters, digits and -, as in blue-1"),
        max_length=63,
        description="release of this controller: it follows the ServedModel objects whose spec.release is this, and "
        "leaves others alone; empty: those without spec.release",
    )
    lease: str = Field(
        "",
        description="name of the Lease that elects the leader of several replicas; empty: triptych-controller, or "
        "RELEASE-controller",
    )
    identity: str = Field(
        "controller_127.0.0.1:9002",
        pattern=in_words(r"^[^_]+_[^_]+:[0-9]+$", "<pod>_<host:port>"),
        description="identity of this replica, <pod>_<host:port>, at which the others reach it if it leads",
    )
    replica_name: str = Field("", description="name in the certificate of the leader; empty: the host of its address")
    kubeconfig: Path | None = Field(None, description="kubeconfig file of the cluster; unset: the account of the pod")
    max_watchers: int = Field(1024, ge=1, description="most streams that watch the catalog, one for each preprocess")
    max_watchers_per_peer: int = Field(
        256,
        ge=1,
        description="most of these streams from one host, so that one host cannot lock out new pods; a proxy counts "
        "as one host",
    )
    max_loads_per_peer: int = Field(
        256, ge=1, description="most calls of one host that wait for loads, of CONTROLLER_MAX_IN_FLIGHT in all"
    )
    stage_names: str = Field(
        "",
        description="names in the certificates of stages, separated by commas, which identify stages with mutual TLS; "
        "empty: nothing is reserved",
    )
    reserved_percent: int = Field(
        50,
        ge=0,
        le=99,
        description="share of max_watchers, and of max_in_flight calls that wait for loads, reserved for callers with "
        "one of stage_names",
    )

    page_port: int = Field(
        0, ge=0, le=65535, description="port of the page for browsers (docs/guides/page.md); 0: there is none"
    )
    page_host: str = Field(
        "127.0.0.1", description="address of the page, for which `kubectl port-forward` needs no other; it has no login"
    )
    page_names: str = Field(
        "localhost,127.0.0.1",
        description="names under which browsers may reach the page, separated by commas; others are refused",
    )
    page_preprocess: str = Field(
        "127.0.0.1:9000", description="gRPC address of preprocess, which the page's form sends requests to"
    )
    page_max_bytes: int = Field(16 << 20, ge=1024, description="largest form of the page, with its files")

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
        """Check the address of the identity. Kubernetes writes an IPv6 address of a pod without brackets."""
        pod, _, address = text.partition("_")
        return f"{pod}_{pod_address(address)}"

    @field_validator("stage_names")
    @classmethod
    def _are_verified(cls, text: str, info: ValidationInfo) -> str:
        """Require the authorities of callers, without which no certificate is requested."""
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
    def lease_name(self) -> str:
        """Name of the Lease. No two releases share one by default."""
        return self.lease or f"{self.release or 'triptych'}-controller"

    @property
    def reservation(self) -> Reservation:
        """Slots reserved for the stages."""
        return Reservation(frozenset(_split(self.stage_names)), self.reserved_percent)

    @property
    def store_options(self) -> StoreOptions:
        """Places of the store's keys and authorities, and its proxy."""
        return StoreOptions(self.store_secret, self.store_ca, self.store_proxy, self.store_max_objects)

    @property
    def page_hosts(self) -> tuple[str, ...]:
        """Names under which browsers may reach the page."""
        return _split(self.page_names)

    @property
    def predictors(self) -> tuple[str, ...]:
        """Addresses of the predictors."""
        return _split(self.triton)


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
