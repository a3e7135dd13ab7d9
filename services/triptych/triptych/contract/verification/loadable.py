"""Configurations that Triton refuses at a load, most of them without a reason ("failed to poll from model repository").

The rules are those of `ValidateModelConfig` and its like in Triton's model_config_utils.cc, each tried on Triton 2.51.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, Final

from tritonclient.grpc import model_config_pb2 as mc

Problem = tuple[str, str]  # a word of the line, and the sentence

# The backend by platform, which older configurations name instead.
PLATFORMS: Final = {
    "onnxruntime_onnx": "onnxruntime",
    "tensorrt_plan": "tensorrt",
    "pytorch_libtorch": "pytorch",
}
_PICTURE_DIMS: Final = 3  # of FORMAT_NCHW and FORMAT_NHWC, without the rows


def unloadable(config: Any) -> Iterator[Problem]:
    """Problems of an `inference.ModelConfig` that no model file can mend."""
    yield from _platform(config)
    yield from _batching(config)
    for group in config.instance_group:
        if group.gpus and group.kind in (mc.ModelInstanceGroup.KIND_CPU, mc.ModelInstanceGroup.KIND_MODEL):
            kind = _spelled(mc.ModelInstanceGroup.Kind, group.kind)
            yield "gpus", f"an instance group of {kind} has gpus {list(group.gpus)}; leave them out, or want KIND_GPU"
    for kind, tensors in (("input", config.input), ("output", config.output)):
        for tensor in tensors:
            yield from _tensor(kind, tensor, config.max_batch_size > 0)
    yield from _batch_tensors(config)
    yield from _ensemble_steps(config)
    yield from _warm_ups(config)


def _platform(config: Any) -> Iterator[Problem]:
    platform, backend = config.platform, config.backend
    if not platform or not backend:
        return
    if platform in PLATFORMS:
        fits = PLATFORMS[platform] == backend
    else:
        fits = platform == backend or backend not in PLATFORMS.values()
    if not fits:
        yield "platform", f"platform {platform} is not that of backend {backend}; leave it out"


def _batching(config: Any) -> Iterator[Problem]:
    batching = config.dynamic_batching
    for size in batching.preferred_batch_size:
        if not 1 <= size <= config.max_batch_size:
            text = f"preferred_batch_size is {size}, want 1 to max_batch_size, which is {config.max_batch_size}"
            yield "preferred_batch_size", text
    levels = batching.priority_levels
    if not levels:
        return
    if not 1 <= batching.default_priority_level <= levels:
        got = batching.default_priority_level
        yield "priority_levels", f"default_priority_level is {got}, want 1 to priority_levels, which is {levels}"
    for level in sorted(batching.priority_queue_policy):
        if not 1 <= level <= levels:
            text = f"priority_queue_policy is for level {level}, want 1 to priority_levels, which is {levels}"
            yield "priority_queue_policy", text
    if batching.preserve_ordering and levels > 1:
        yield "preserve_ordering", f"preserve_ordering forbids {levels} priority_levels; want one of them"


def _tensor(kind: str, tensor: Any, batching: bool) -> Iterator[Problem]:
    word, name = f'"{tensor.name}"', f"{kind} '{tensor.name}'"
    if not tensor.name:
        yield kind, f"an {kind} has no name"
    if tensor.data_type == mc.TYPE_INVALID:
        yield word, f"{name} has no data_type"
    if kind == "input" and tensor.format != mc.ModelInput.FORMAT_NONE and len(tensor.dims) != _PICTURE_DIMS:
        layout = _spelled(mc.ModelInput.Format, tensor.format)
        yield word, f"{name} has dims {list(tensor.dims)}, want 3 of them for {layout}"
    if tensor.HasField("reshape"):
        shape, dims = list(tensor.reshape.shape), list(tensor.dims)
        if not shape and not batching:
            yield word, f"{name} has an empty reshape, but no rows in front; want max_batch_size above 0, or no reshape"
        elif _sizes(shape) != _sizes(dims):
            yield word, f"{name} has dims {dims} and reshape {shape}; want as many values in both"


def _sizes(dims: Sequence[int]) -> list[int]:
    """Products of the dimensions between those that are open: they are the same after a reshape."""
    open_at = [at for at, dim in enumerate(dims) if dim == -1]
    starts, ends = [0, *(at + 1 for at in open_at)], [*open_at, len(dims)]
    return [prod(dims[start:end]) for start, end in zip(starts, ends, strict=True)]


def _batch_tensors(config: Any) -> Iterator[Problem]:
    """Inputs that Triton makes of a batch, and outputs that it divides: both name an input."""
    inputs, outputs = ({tensor.name for tensor in tensors} for tensors in (config.input, config.output))
    for field, made in (("batch_input", config.batch_input), ("batch_output", config.batch_output)):
        for each in made:
            for name in each.source_input:
                if name not in inputs:
                    yield f'"{name}"', f"{field}: there is no input '{name}'"
    for each in config.batch_output:
        for name in each.target_name:
            if name not in outputs:
                yield f'"{name}"', f"batch_output: there is no output '{name}'"


def _ensemble_steps(config: Any) -> Iterator[Problem]:
    steps = config.ensemble_scheduling.step
    if steps and config.instance_group:
        yield "instance_group", "an ensemble has no instances of its own; leave instance_group out"
    written = {name for step in steps for name in step.output_map.values()}
    made = {tensor.name for tensor in config.input} | written
    for tensor in config.output if steps else ():
        if tensor.name not in written:
            yield f'"{tensor.name}"', f"ensemble_scheduling: no step writes output '{tensor.name}'"
    for step in steps:
        if not step.model_name:
            yield "ensemble_scheduling", "ensemble_scheduling: a step has no model_name"
        for field in ("input_map", "output_map"):
            if not getattr(step, field):
                yield f'"{step.model_name}"', f"ensemble_scheduling: the step of '{step.model_name}' has no {field}"
        for name in step.input_map.values():
            if name not in made:
                what = "no input of the ensemble and no output of a step"
                yield f'"{name}"', f"ensemble_scheduling: '{name}', which '{step.model_name}' reads, is {what}"


def _warm_ups(config: Any) -> Iterator[Problem]:
    """Triton's own warm-up requests, each of which has to be good: a load fails with the first that is refused."""
    declared = {tensor.name: tensor for tensor in config.input}
    for setting in config.model_warmup:
        what = f"model_warmup '{setting.name}'"
        if setting.batch_size > config.max_batch_size > 0:
            text = f"{what} has batch_size {setting.batch_size}, but max_batch_size is {config.max_batch_size}"
            yield "model_warmup", text
        for name, tensor in declared.items():
            if name not in setting.inputs:
                if not tensor.optional:
                    yield "model_warmup", f"{what} has no input '{name}'"
            else:
                yield from ((f'"{name}"', f"{what}: {text}") for text in _warm_up_input(setting.inputs[name], tensor))


def _warm_up_input(given: Any, tensor: Any) -> Iterator[str]:
    if given.WhichOneof("input_data_type") is None:
        yield f"input '{tensor.name}' has no data; want zero_data, random_data or input_data_file"
    if given.data_type != tensor.data_type:
        got, want = (_spelled(mc.DataType, each.data_type) for each in (given, tensor))
        yield f"input '{tensor.name}' is {got}, want {want}"
    dims, declared = list(given.dims), list(tensor.dims)
    fits = len(dims) == len(declared) and all(want in (-1, got) for got, want in zip(dims, declared, strict=True))
    if not fits:
        yield f"input '{tensor.name}' has dims {dims}, want {declared}"


def _spelled(enumeration: Any, number: int) -> str:
    """The name of a number; the number if it has none, which the text format allows."""
    return str(enumeration.Name(number)) if number in enumeration.values() else str(number)
