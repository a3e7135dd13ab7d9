"""The texts of config.pbtxt and contract.yaml."""

from __future__ import annotations

import json
from collections.abc import Sequence

from triptych.contract.specs import DEFAULT_ROUTE
from triptych_cli.init.draft import Draft, DraftTensor
from triptych_cli.init.patterns import Pattern

CONFIG = """\
# The same file for NVIDIA's image and for `make run`.
name: {name}
backend: "onnxruntime"
max_batch_size: {max_batch_size}
{tensors}
# The catalog splits traffic between versions, so all that lie here are served.
version_policy {{ all {{ }} }}
"""
BATCHING = """\
# Requests that wait are run together; none is kept waiting for others.
dynamic_batching { max_queue_delay_microseconds: 0 }
"""
THREADS = """\
# One thread each: many models share a few cores.
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
parameters { key: "inter_op_thread_count" value { string_value: "1" } }
"""
CONTRACT = """\
# What each field means: docs/guides/contracts.md; all steps: triptych steps
apiVersion: triptych.dev/v1
kind: Contract
family: {family}
{route}max_rows: {max_rows}

inputs:  # what a caller sends; -1 is the rows{hint}
{inputs}
{preprocess}
model:  # as in config.pbtxt, the rows first
  inputs:
{model_inputs}
  outputs:
{model_outputs}
{postprocess}
outputs:  # what the caller gets
{outputs}
{labels}"""


def config_text(name: str, draft: Draft, max_rows: int) -> str:
    """config.pbtxt of a model folder of that name."""
    tensors = "\n".join(
        f"{kind} [ {{ {_config_tensor(tensor)} }} ]"
        for kind, each in (("input", draft.inputs), ("output", draft.outputs))
        for tensor in each
    )
    max_batch_size = max_rows if draft.is_batching else 0
    text = CONFIG.format(name=_quoted(name), max_batch_size=max_batch_size, tensors=tensors)
    return "\n".join([text, *([BATCHING] if draft.is_batching else []), THREADS])


def contract_text(family: str, route: str, max_rows: int, draft: Draft, pattern: Pattern) -> str:
    """contract.yaml of a version."""
    return CONTRACT.format(
        family=_quoted(family),
        route="" if route == DEFAULT_ROUTE else f"route: {_quoted(route)}\n",
        max_rows=max_rows,
        hint="; NaN needs finite: false" if any("datatype: FP" in line for line in pattern.inputs) else "",
        inputs=_lines(pattern.inputs),
        preprocess=_section("preprocess", pattern.preprocess),
        model_inputs=_lines([_contract_tensor(tensor) for tensor in draft.inputs], 4),
        model_outputs=_lines([_contract_tensor(tensor) for tensor in draft.outputs], 4),
        postprocess=_section("postprocess", pattern.postprocess),
        outputs=_lines(pattern.outputs),
        labels="".join(f"{line}\n" for line in pattern.labels),
    )


def _config_tensor(tensor: DraftTensor) -> str:
    datatype = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
    text = f"name: {_quoted(tensor.name)} data_type: TYPE_{datatype} dims: [ {_numbers(tensor.config_dims)} ]"
    return text if tensor.file_shape is None else f"{text} reshape {{ shape: [ {_numbers(tensor.file_shape)} ] }}"


def _numbers(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))


def _contract_tensor(tensor: DraftTensor) -> str:
    rows = f", rows_axis: {tensor.rows_axis}" if tensor.rows_axis else ""
    return f"{{name: {_quoted(tensor.name)}, datatype: {tensor.datatype}, shape: {json.dumps(tensor.shape)}{rows}}}"


def _section(name: str, steps: Sequence[str]) -> str:
    return f"\n{name}:\n{_lines(steps)}\n" if steps else ""


def _lines(items: Sequence[str], indent: int = 2) -> str:
    return "\n".join(f"{' ' * indent}- {item}" for item in items)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
