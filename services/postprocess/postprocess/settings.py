"""The settings of postprocess."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from triptych.runtime.addresses import Address
from triptych.runtime.settings import StageSettings


class Settings(StageSettings):
    """postprocess: the last stage, `inference.GRPCInferenceService` over gRPC."""

    model_config = SettingsConfigDict(env_prefix="POSTPROCESS_", frozen=True, extra="forbid")

    port: int = Field(9001, ge=0, le=65535, description="gRPC port")
    metrics_port: int = Field(9101, ge=0, le=65535, description="port of the Prometheus endpoint; 0 switches it off")
    controller: Address = Field("127.0.0.1:9002", description="address of the controller")
    worker_threads: int = Field(0, ge=0, description="threads for CPU work; 0 means the pod's CPU limit")
    inline_bytes: int = Field(
        65_536,
        ge=0,
        description="outputs up to this size are finished without a thread",
    )
    inline_s: float = Field(0.001, ge=0, description="larger outputs that are expected to take no longer are, too")
    contract_cache: int = Field(10_000, ge=1, description="contracts kept in memory")
    contract_cache_bytes: int = Field(
        0,
        ge=0,
        description="memory of the contracts kept, with the files that their steps read, such as tokenizers; the least "
        "recently used leave, and a version that takes more alone is refused; 0: a quarter of the memory of the pod or "
        "machine",
    )
