"""Texts of config.pbtxt, with a reason for each number."""

from __future__ import annotations

from typing import Final

from examples.models.contracts import DIGITS_MAX_ROWS, PICTURE_PIXELS, SALES_MAX_ROWS
from examples.models.countries import FEATURES, HORIZON_DAYS

_TEXT: Final = """\
# The same file for NVIDIA's image and for `make run`.
name: "{name}"
backend: "onnxruntime"

# Rows of one execution: {rows_reason}
max_batch_size: {max_rows}
input [ {{ name: "{source}" data_type: TYPE_FP32 dims: [ {source_dims} ] }} ]
output [ {{ name: "{result}" data_type: TYPE_FP32 dims: [ {result_dims} ] }} ]

# Traffic is split between the versions by the catalog, so all that lie here are served.
version_policy {{ all {{ }} }}

# Requests that wait are run together; none is kept waiting for others to come.
dynamic_batching {{ max_queue_delay_microseconds: 0 }}

# One instance: {instance_reason}
instance_group [ {{ count: 1 kind: KIND_CPU }} ]

# One thread: dozens of models share a few cores, and requests to different models run side by side. With a pool
# of threads for each model they would only take the cores from each other.
parameters {{ key: "intra_op_thread_count" value {{ string_value: "1" }} }}
parameters {{ key: "inter_op_thread_count" value {{ string_value: "1" }} }}

# Memory: {memory_reason}
# Without the arena a model gives back what its largest batch took, instead of keeping it for ever.
parameters {{ key: "enable_mem_arena" value {{ string_value: "0" }} }}
parameters {{ key: "enable_mem_pattern" value {{ string_value: "0" }} }}
"""


def sales_config(name: str) -> str:
    """The config.pbtxt of a sales_forecast model."""
    return _TEXT.format(
        name=name,
        max_rows=SALES_MAX_ROWS,
        rows_reason="the most that the contract takes in one request.",
        source="features",
        source_dims=FEATURES,
        result="forecast",
        result_dims=HORIZON_DAYS,
        instance_reason="a row is 1,600 multiplications; a second copy would cost memory and save nothing.",
        memory_reason="6 KB of weights; a full batch takes 0.1 MB while it runs.",
    )


def digits_config(name: str) -> str:
    """The config.pbtxt of a digits model."""
    return _TEXT.format(
        name=name,
        max_rows=DIGITS_MAX_ROWS,
        rows_reason="the most that the contract takes in one request; 64 pictures are 0.8 MB of pixels.",
        source="pixels",
        source_dims=f"3, {PICTURE_PIXELS}, {PICTURE_PIXELS}",
        result="logits",
        result_dims="10",
        instance_reason="a picture is 1.5 million multiplications; on two cores a second copy would only add memory.",
        memory_reason="180 KB of weights for each version; a full batch takes some 3 MB while it runs.",
    )
