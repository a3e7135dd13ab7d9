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
        5.0, ge=0, lt=100, description="share of the budget of each predictor kept free at least ..."
    )
    headroom_max_percent: float = Field(
        30.0,
        ge=0,
        lt=100,
        description="... and at most; between the two, capacity is kept for the loads that arrive while one model is "
        "loaded and another unloaded, so that no load waits for an unload; 0: always headroom_percent",
    )
    headroom_bursts: float = Field(
        2.5,
        ge=0,
        description="reserve for bursts beside that, in square roots of that number of loads: "
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
        10.0, ge=0, description="... or after so many requests for each loaded version, whichever is later"
    )
    busy_s: float = Field(3.0, ge=0, description="a version used within that time is not evicted ...")
    min_residence_s: float = Field(30.0, ge=0, description="... until it has been loaded for that long")
    capacity_wait_s: float = Field(
        5.0, ge=0, description="a load waits that long for capacity, else it is refused with RESOURCE_EXHAUSTED"
    )
    replicas_up_waiting: float = Field(
        1.0, gt=0, description="a version gets one more replica when so many requests wait in each of its queues ..."
    )
    replicas_up_s: float = Field(5.0, ge=0, description="... on average for that long")
    replicas_down_s: float = Field(60.0, ge=0, description="one replica less when it has not needed it for that long")
    estimate_factor: float = Field(
        1.5, ge=0, description="memory of a version that is neither measured nor declared: size of its files times this"
    )
    estimate_base_bytes: int = Field(
        32 * MIB, ge=0, description="... plus this: a process for each version in a predictor without GPU"
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
        1.0, ge=0, description="least time between two such reloads of a version; doubles with each, up to ..."
    )
    reload_backoff_max_s: float = Field(8.0, ge=0, description="... that long; it starts anew after 60 s without one")
    reload_tries: int = Field(5, ge=1, description="reloads after which a version still cannot run, and then ...")
    reload_pause_s: float = Field(300.0, ge=0, description="... it is left as it is for that long")
    max_concurrent_loads: int = Field(2, ge=1, description="loads at once in each predictor; each takes a core")
    max_waiting_loads: int = Field(
        256, ge=1, description="models that load or wait for it; more are refused with RESOURCE_EXHAUSTED"
    )
