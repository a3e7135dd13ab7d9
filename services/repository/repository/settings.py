"""The settings of the repository."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from triptych.settings import StageSettings


class Settings(StageSettings):
    """repository: models, contracts and traffic for the stages, and what Triton has loaded."""

    model_config = SettingsConfigDict(env_prefix="REPOSITORY_", frozen=True, extra="forbid")

    port: int = Field(9002, ge=0, le=65535, description="gRPC port")
    metrics_port: int = Field(9102, ge=0, le=65535, description="port of the Prometheus endpoint; 0 switches it off")
    model_repository: Path = Field(
        Path("model-repository"),
        description="folder of the models: Triton's layout, with a contract.yaml per version",
    )
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
        description="seconds between two looks at the folders; what is new has to rest that long",
    )
    triton: str = Field("127.0.0.1:8001", description="gRPC addresses of the Tritons, separated by commas")
    sync_s: float = Field(1.0, gt=0, description="seconds between two looks at what each Triton has ready")
    load_timeout_s: float = Field(60.0, gt=0, description="longest time for one load; Triton waits for ever")
    failure_ttl_s: float = Field(
        30.0, ge=0, description="seconds before a failed load is tried again; 0 tries on every request"
    )
    max_concurrent_loads: int = Field(2, ge=1, description="loads at once in each Triton; each takes a core")
    max_waiting_loads: int = Field(
        256, ge=1, description="models that load or wait for it; more are refused with RESOURCE_EXHAUSTED"
    )
    max_watchers: int = Field(1024, ge=1, description="streams that follow the catalogue, one for each preprocess")

    @field_validator("triton")
    @classmethod
    def _has_addresses(cls, text: str) -> str:
        addresses = _split(text)
        for address in addresses:
            host, _, port = address.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 65536:
                raise ValueError(f"want host:port, got '{address}'")
        if not addresses or len(set(addresses)) != len(addresses):
            raise ValueError("want at least one address, each of them once")
        return text

    @property
    def predictors(self) -> tuple[str, ...]:
        """Addresses of the Tritons."""
        return _split(self.triton)


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
