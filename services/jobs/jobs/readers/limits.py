"""Limits of reading. A batch document sets them below `limits`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

MIB = 1 << 20


class ReadLimits(BaseModel):
    """Limits of sources, parts and record batches. Beyond one a source is refused with a sentence that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, alias_generator=to_camel, populate_by_name=True)

    part_bytes: int = Field(16 * MIB, ge=1024, le=1024 * MIB, description="bytes of one part, unpacked")
    part_rows: int = Field(50_000, ge=1, le=10_000_000, description="rows of one part")
    batch_bytes: int = Field(4 * MIB, ge=1024, le=256 * MIB, description="bytes of one record batch")
    max_files: int = Field(100_000, ge=1, description="files of one run")
    max_columns: int = Field(2_000, ge=1, description="columns of a file")
    max_record_bytes: int = Field(
        16 * MIB, ge=1024, description="bytes of one line of CSV or JSONL, one picture, one message"
    )
    max_row_group_bytes: int = Field(
        1024 * MIB, ge=1024, description="unpacked bytes of a row group of Parquet, or of a record batch of Arrow IPC"
    )
    max_entries: int = Field(1_000_000, ge=1, description="entries of one archive")
    max_unpacked_bytes: int = Field(64 << 30, ge=1024, description="unpacked bytes of one archive")
    max_unpacked_ratio: int = Field(
        200, ge=1, description="how many times larger an entry of an archive may be when unpacked, if over 1 MiB"
    )
    sample_bytes: int = Field(
        MIB, ge=1024, le=64 * MIB, description="bytes at the start of a CSV or JSONL file that tell the types"
    )
