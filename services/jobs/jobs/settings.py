"""The settings of jobs."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from jobs.ledger import LedgerLimits
from triptych.runtime.addresses import Address
from triptych.runtime.settings import StageSettings

GIB = 1 << 30


class Settings(StageSettings):
    """jobs: accepts jobs, keeps them in a ledger, and streams their answers."""

    model_config = SettingsConfigDict(env_prefix="JOBS_", frozen=True, extra="forbid")

    port: int = Field(9003, ge=0, le=65535, description="gRPC port")
    metrics_port: int = Field(9103, ge=0, le=65535, description="port of the Prometheus endpoint; 0 switches it off")
    ledger: str = Field(
        "sqlite:///jobs.db",
        repr=False,
        description="database of the jobs: sqlite:///FILE on a local disk, or postgresql://USER:PASSWORD@HOST/DATABASE "
        "for more than one machine",
    )
    objects: str = Field("jobs", description="place of uploads and results: a folder, or s3://bucket/prefix")
    preprocess: Address = Field("127.0.0.1:9000", description="address of preprocess, which answers the rows")
    parallel_parts: int = Field(
        2, ge=0, description="parts that this process works on at once; 0: it only accepts jobs and streams answers"
    )
    total_parallel_parts: int = Field(
        0,
        ge=0,
        description="parts that all processes together work on at once, by which deadlines are judged; 0: as many as "
        "this process",
    )
    lease_s: float = Field(15.0, gt=1, description="a worker that does not renew its lease within that time loses it")
    predict_timeout_s: float = Field(30.0, gt=0, description="longest time for one request to preprocess")
    predict_retry_s: float = Field(
        60.0, ge=0, description="time for which a request to preprocess is tried again; then its part is postponed"
    )
    sources: str = Field(
        "",
        description="folders and prefixes such as s3://bucket/key, separated by commas, that jobs may read beside "
        "uploads; none by default",
    )
    max_jobs: int = Field(100_000, ge=1, description="jobs kept, with those that have ended; more are refused")
    max_parts: int = Field(5_000_000, ge=1, description="parts of one job; a job with more is refused")
    max_document_bytes: int = Field(1 << 20, ge=1, description="largest document of a job")
    max_upload_bytes: int = Field(16 * GIB, ge=1, description="largest upload")
    max_uploads: int = Field(16, ge=1, description="calls that upload at once, each with up to 24 MiB in memory")
    max_followers: int = Field(256, ge=1, description="calls that follow jobs at once, each with up to 2 MiB in memory")
    keep_s: float = Field(
        7 * 86_400.0, ge=0, description="results are kept that long after the end of a job, if its caller says nothing"
    )
    upload_keep_s: float = Field(
        7 * 86_400.0,
        gt=0,
        description="an upload is deleted that long after its last bytes, even if a job reads it",
    )
    attempts: int = Field(5, ge=1, description="tries of a part until its job fails")
    backoff_s: float = Field(1.0, ge=0, description="pause before the second try of a part; it doubles with each try")
    max_backoff_s: float = Field(60.0, ge=0, description="longest pause between two tries of a part")
    expire_s: float = Field(60.0, gt=0, description="pause between two looks for results that have expired")

    @property
    def limits(self) -> LedgerLimits:
        return LedgerLimits(
            jobs=self.max_jobs,
            parts_per_job=self.max_parts,
            document_bytes=self.max_document_bytes,
            attempts=self.attempts,
            backoff_s=self.backoff_s,
            max_backoff_s=self.max_backoff_s,
            parts_at_once=self.total_parallel_parts or self.parallel_parts or 1,
        )
