"""The settings of preprocess."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from triptych.runtime.addresses import Address, PodAddress, checked_address
from triptych.runtime.settings import MIB, StageSettings

IN_PROCESS = "in-process"


def _called_or_in_process(address: str) -> str:
    try:
        return address if address == IN_PROCESS else checked_address(address)
    except ValueError as error:
        raise ValueError(f"{error}; or {IN_PROCESS}") from None


class Settings(StageSettings):
    """preprocess: the first stage, `inference.GRPCInferenceService` over gRPC."""

    model_config = SettingsConfigDict(env_prefix="PREPROCESS_", frozen=True, extra="forbid")

    port: int = Field(9000, ge=0, le=65535, description="gRPC port")
    metrics_port: int = Field(9100, ge=0, le=65535, description="port of the Prometheus endpoint; 0 switches it off")
    rest_port: int = Field(0, ge=0, le=65535, description="port of the protocol's HTTP form (REST); 0 switches it off")
    rest_max_json_bytes: int = Field(
        MIB, ge=1024, description="largest JSON of one REST request or answer; binary tensors behind it do not count"
    )
    rest_max_connections: int = Field(
        64,
        ge=1,
        description="REST connections at once; beyond that the oldest one without a request is closed, and if each has "
        "one, more are answered with 503",
    )
    # The age decides how soon callers of a Service find a new replica; a replica that stops sends GOAWAY by itself.
    # After GOAWAY, grpc-js ends a connection's calls with its next keepalive ping (grpc-node#3068): an age of 10 s cut
    # every longer stream of such a caller.
    connection_age_s: float = Field(
        300.0,
        ge=0,
        description="a connection gets GOAWAY after that long, so that its caller finds new replicas; calls on it end "
        "as they would; 0: never",
    )
    controller: Address = Field("127.0.0.1:9002", description="address of the controller")
    postprocess: Annotated[str, AfterValidator(_called_or_in_process)] = Field(
        "127.0.0.1:9001",
        description=f"address of postprocess; {IN_PROCESS}: its work is done in this process",
    )
    own_predictor: PodAddress = Field(
        "", description="address of the Triton in the same pod: called first if no other has fewer calls in flight"
    )
    predict_timeout_s: float = Field(10.0, gt=0, description="longest time for one call to Triton")
    postprocess_timeout_s: float = Field(
        5.0, gt=0, description="longest time for one call to postprocess, or for its work in this process"
    )
    worker_threads: int = Field(0, ge=0, description="threads for CPU work; 0 means the pod's CPU limit")
    # Counted unpacked: 3 KB of PNG can be 25 million pixels, which would block the event loop for 0.2 s.
    inline_bytes: int = Field(
        16_384,
        ge=0,
        description="requests up to this size, their pictures unpacked, are prepared without a thread",
    )
    inline_s: float = Field(
        0.001,
        ge=0,
        description="larger requests that are expected to take no longer are, too; pictures are not",
    )
    # A limit of one makes the largest batches: at 64 callers the stages took 363 us of CPU for a request with one, 452
    # with two and 551 with four (2026-11-21). A slow model still gets its next batch after `batch_max_wait_s`.
    max_in_flight_batches: int = Field(
        1, ge=1, description="batches of one version's requests in flight at once for each Triton; other requests queue"
    )
    batch_max_wait_s: float = Field(
        0.01, gt=0, description="when a request has queued for that long, another batch starts, up to twice as many"
    )
    # Without a GPU, a Triton works on as many batches at once as it has cores, and the others only wait there
    # (docs/decisions/2026-11-30-many-models.md).
    predictor_batches: int = Field(
        0,
        ge=0,
        description="batches of all versions in flight at once for each Triton; other requests queue, so that batches "
        "grow; for a Triton without a GPU four for each core; 0: no limit",
    )
    batch_slot_s: float = Field(
        0.1, gt=0, description="a batch that takes longer is not counted in `PREPROCESS_PREDICTOR_BATCHES` any more"
    )
    # At 64 callers batches of pictures are 20 with it and 3 without (requests of preprocess to those of postprocess in
    # their metrics), and 1.6 times as many are answered (docs/decisions/2026-11-21-batching.md).
    batch_linger_share: float = Field(
        1.0,
        ge=0,
        description="a request lingers for others in preparation: at most this share of the time its own took",
    )
    background_batches: int = Field(
        1, ge=1, description="batches of background requests in flight at once; they start while nobody else waits"
    )
    background_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="background requests are refused if more requests than this share of the limit are in flight, or "
        "if they themselves have more than this share of the bytes",
    )
    max_batch_bytes: int = Field(4 * MIB, ge=1, description="most bytes of requests in one batch")
    max_wait_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="a request is refused if its expected wait for a thread or a model is over this share of its time",
    )
    contract_cache: int = Field(10_000, ge=1, description="contracts kept in memory")
    contract_cache_bytes: int = Field(
        0,
        ge=0,
        description="memory of the contracts kept, with the files that their steps read, such as tokenizers; the least "
        "recently used leave, and a version that takes more alone is refused; 0: a quarter of the memory of the pod or "
        "machine",
    )
