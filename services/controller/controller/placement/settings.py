"""Settings of placement: budgets, headroom, replica counts, and limits of loads and reloads."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from triptych.runtime.settings import MIB


class PlacementSettings(BaseModel):
    """Part of the settings of the controller."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_models: int = Field(0, ge=0, description="versions loaded in each predictor at most; 0 is no limit")
    max_bytes: int = Field(
        0,
        ge=0,
        description="bytes that loaded versions may take in each predictor; 0: gpu_percent of its GPU memory, or "
        "memory_percent of this machine's",
    )
    memory_percent: float = Field(
        50.0,
        ge=0,
        le=100,
        description="share of this machine's memory, or of what its cgroup may have, for the models of all predictors "
        "that run on it without a GPU; 0: no limit",
    )
    gpu_percent: float = Field(85.0, gt=0, le=100, description="share of the GPU memory that models may take")
    headroom_percent: float = Field(
        5.0, ge=0, lt=100, description="least headroom: percent of each predictor's budget that is kept free"
    )
    headroom_max_percent: float = Field(
        30.0,
        ge=0,
        lt=100,
        description="most headroom, in percent; up to that, headroom is kept for the loads that arrive while one model "
        "is loaded and another unloaded, so that no load waits for an unload; 0: always headroom_percent",
    )
    headroom_bursts: float = Field(
        2.5,
        ge=0,
        description="additional headroom for bursts, in square roots of the loads that arrive during one load: "
        "with 2.5 about 1 load in 100 waits; 0: none",
    )
    idle_ttl_s: float = Field(900.0, ge=0, description="a version not used that long is unloaded; 0: never for that")
    half_life_s: float = Field(
        300.0,
        ge=0,
        description="for capacity the version with the fewest recent requests is evicted: a request counts half "
        "after this time; 0: the least recently used is evicted",
    )
    half_life_requests: float = Field(
        10.0,
        ge=0,
        description="a request counts half after half_life_s, but not before so many requests for each loaded version",
    )
    busy_s: float = Field(
        3.0,
        ge=0,
        description="a version used within that time, and loaded within min_loaded_s, is not evicted for capacity",
    )
    min_loaded_s: float = Field(30.0, ge=0, description="time from the load of a version for which busy_s protects it")
    capacity_wait_s: float = Field(
        5.0, ge=0, description="a load waits that long for capacity, else it is refused with RESOURCE_EXHAUSTED"
    )
    replicas_up_waiting: float = Field(
        1.0,
        gt=0,
        description="with more waiting requests for each replica, a version needs one more replica",
    )
    replicas_up_s: float = Field(5.0, ge=0, description="how long a version needs one more replica before it gets it")
    replicas_down_s: float = Field(60.0, ge=0, description="one replica less when it has not needed it for that long")
    estimate_factor: float = Field(
        1.5, ge=0, description="memory of a version that is neither measured nor declared: size of its files times this"
    )
    estimate_base_bytes: int = Field(
        32 * MIB, ge=0, description="added to that estimate: a predictor without GPU has a process for each version"
    )
    load_timeout_s: float = Field(60.0, gt=0, description="longest time for one load; Triton itself has no limit")
    warm_up: bool = Field(
        True, description="a version that was loaded answers made-up rows before it takes requests; false: it need not"
    )
    warm_up_rows: int = Field(
        8,
        ge=1,
        description="rows of the second of the two made-up requests, at most the model's max_batch_size, "
        "or max_rows where it has none; the first has one",
    )
    warm_up_timeout_s: float = Field(
        30.0, gt=0, description="longest time for a warm-up; the first call of a model may compile it"
    )
    withdraw_s: float = Field(0.1, ge=0, description="between the announcement of an eviction and the unload")
    failure_ttl_s: float = Field(
        30.0, ge=0, description="seconds before a failed load is tried again; 0 tries on every request"
    )
    failing_requests: int = Field(
        3,
        ge=0,
        description="failures of a version in one predictor without a success between them, after which a made-up row "
        "tells whether it can run; if it cannot it is loaded anew; 0: only when a stage says so",
    )
    reload_backoff_s: float = Field(
        1.0,
        ge=0,
        description="least time between two reloads of a version that cannot run; doubles with each reload",
    )
    reload_backoff_max_s: float = Field(
        8.0, ge=0, description="limit of that doubling, which starts anew after 60 s without a reload"
    )
    reload_tries: int = Field(5, ge=1, description="reloads without success after which reload_pause_s applies")
    reload_pause_s: float = Field(300.0, ge=0, description="time between two reloads of a version after reload_tries")
    max_concurrent_loads: int = Field(2, ge=1, description="loads at once in each predictor; each takes a core")
    max_waiting_loads: int = Field(
        256, ge=1, description="models that load or wait for it; more are refused with RESOURCE_EXHAUSTED"
    )
