"""Tables of the ledger, the same for SQLite and Postgres."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

SCHEMA_VERSION = 1

metadata = MetaData()

schema = Table("triptych_schema", metadata, Column("version", Integer, nullable=False))

# SQLite counts up by itself only in a column whose type is INTEGER.
_position: Any = BigInteger().with_variant(Integer, "sqlite")

jobs = Table(
    "triptych_jobs",
    metadata,
    Column("position", _position, primary_key=True, autoincrement=True),  # order of submission, for pages
    Column("id", String(64), nullable=False, unique=True),
    Column("request_id", Text, unique=True),  # NULL once the job is deleted, so that the id is free
    Column("digest", String(64), nullable=False),  # of what was submitted
    Column("document", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("background", Boolean, nullable=False),
    Column("model", Text, nullable=False, default=""),
    Column("version", BigInteger, nullable=False, default=0),
    Column("parts", BigInteger, nullable=False, default=0),
    Column("committed", BigInteger, nullable=False, default=0),
    Column("rows", BigInteger, nullable=False, default=0),
    Column("bad_rows", BigInteger, nullable=False, default=0),
    Column("seconds", Double, nullable=False, default=0.0),
    Column("created_s", Double, nullable=False),
    Column("started_s", Double),
    Column("served_s", Double, nullable=False),  # the last claim of a part: the job served longest ago is next
    Column("ended_s", Double),
    Column("keep_s", Double, nullable=False),
    Column("deadline_s", Double),
    Column("expires_s", Double),
    Column("deleted", Boolean, nullable=False, default=False),
    Column("revision", BigInteger, nullable=False, default=0),
    Column("summary", JSON(none_as_null=True)),
    Column("error", Text, nullable=False, default=""),
)

# No foreign key: parts are added and removed in pieces, each in a transaction that has checked the job.
parts = Table(
    "triptych_parts",
    metadata,
    Column("job_id", String(64), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("kind", String(8), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("claimable_s", Double, nullable=False),  # end of the lease, or of the backoff
    Column("fence", BigInteger, nullable=False, default=0),
    Column("attempts", Integer, nullable=False, default=0),
    Column("worker", Text, nullable=False, default=""),
    Column("ended_s", Double),
    Column("sequence", BigInteger),
    Column("object", Text, nullable=False, default=""),
    Column("rows", BigInteger, nullable=False, default=0),
    Column("bad_rows", BigInteger, nullable=False, default=0),
    Column("seconds", Double, nullable=False, default=0.0),
    Column("summary", JSON(none_as_null=True)),
    Column("error", Text, nullable=False, default=""),
    PrimaryKeyConstraint("job_id", "number"),
)

# A claim reads no row that has ended. SQLite takes a partial index only for the same condition, without parameters.
live_jobs, open_parts = jobs.c.ended_s.is_(None), parts.c.ended_s.is_(None)
Index(
    "triptych_jobs_live",
    jobs.c.background,
    jobs.c.served_s,
    sqlite_where=live_jobs,
    postgresql_where=live_jobs,
)
Index(
    "triptych_parts_open",
    parts.c.job_id,
    parts.c.number,
    sqlite_where=open_parts,
    postgresql_where=open_parts,
)
Index("triptych_parts_sequence", parts.c.job_id, parts.c.sequence, unique=True)
Index("triptych_jobs_expiry", jobs.c.expires_s)
