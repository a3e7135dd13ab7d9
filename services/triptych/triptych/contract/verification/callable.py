"""Configurations of Triton that preprocess cannot call: it sends one request of rows and wants one answer of rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

Problem = tuple[str, str]  # a word of the line, and the sentence

_ONE_ANSWER: Final = "preprocess wants one answer to each request"


def uncallable(config: Any, models: Collection[str] | None = None) -> Iterator[Problem]:
    """Problems of an `inference.ModelConfig`. `models` are the names of all models, None if they are unknown."""
    if config.model_transaction_policy.decoupled:
        yield "decoupled", f"a decoupled model answers with a stream, but {_ONE_ANSWER}; want decoupled: false"
    if config.HasField("sequence_batching"):
        text = "sequence_batching wants requests with a sequence id, but preprocess sends each request by itself"
        yield "sequence_batching", f"{text}; leave it out"
    if config.max_batch_size < 0:
        yield "max_batch_size", f"max_batch_size is {config.max_batch_size}, want 0 or more"
    for kind, tensors in (("input", config.input), ("output", config.output)):
        yield from _tensors(kind, tensors)
    yield from _ensemble(config, models)
    groups = config.instance_group
    if groups and all(group.passive for group in groups):
        yield "passive", "every instance group is passive, so no instance answers requests; want one that is not"
    yield from _paths(config)


def _tensors(kind: str, tensors: Sequence[Any]) -> Iterator[Problem]:
    seen: set[str] = set()
    for tensor in tensors:
        word, name = f'"{tensor.name}"', f"{kind} '{tensor.name}'"
        if tensor.name in seen:
            yield word, f"{name} is declared twice"
        seen.add(tensor.name)
        if not tensor.dims:
            yield word, f"{name} has no dims; want one at least, [ 1 ] for one value"
        if any(dim != -1 and dim < 1 for dim in tensor.dims):
            yield word, f"{name} has dims {list(tensor.dims)}; want each to be positive, or -1 for any"
        for flag in ("is_shape_tensor", "is_non_linear_format_io"):
            if getattr(tensor, flag):
                yield word, f"{name} has {flag}, but preprocess sends and reads plain tensors; leave it out"


def _ensemble(config: Any, models: Collection[str] | None) -> Iterator[Problem]:
    is_ensemble = config.platform == "ensemble" or config.backend == "ensemble"
    if not config.HasField("ensemble_scheduling"):
        if is_ensemble:
            yield "ensemble", "an ensemble has no ensemble_scheduling; want its steps"
        return
    if not config.ensemble_scheduling.step:
        yield "ensemble_scheduling", "ensemble_scheduling has no step; want one at least"
    for step in config.ensemble_scheduling.step:
        word = f'"{step.model_name}"'
        if step.model_name == config.name:
            yield word, f"ensemble_scheduling: '{step.model_name}' is a step of itself"
        elif models is not None and step.model_name not in models:
            yield word, f"ensemble_scheduling: the model repository has no model '{step.model_name}'"


def _paths(config: Any) -> Iterator[Problem]:
    """Names of files that lead out of the version's folder."""
    names = [("default_model_filename", config.default_model_filename), ("runtime", config.runtime)]
    names += [("cc_model_filenames", name) for name in config.cc_model_filenames.values()]
    names += [("label_filename", tensor.label_filename) for tensor in config.output]
    for field, name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name:
            yield field, f"{field} is {name!r:.80}; want a name within the model's folder"
