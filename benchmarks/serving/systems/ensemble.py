"""Triton ensemble: a Python model before, the model, and a Python model after, in one server.

It is configured for two cores by Triton's user guide (docs/user_guide: ensemble_models, optimization, and the README of
the Python backend): dynamic batching at every step, two instances of the picture step, one of the others, and Python
models that run whole batches.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.serving.systems.base import Processes
from benchmarks.serving.systems.predictor import triton
from benchmarks.serving.workloads import MODELS, Arrays, ServingWorkload, tensor_specs
from local.environments import ROOT

PROGRAM = ROOT / "benchmarks/serving/programs/triton_step.py"
ROWS = {"sales": 256, "digits": 64}
INSTANCES = {("before", "digits"): 2}
TRITON_TYPES = {"BYTES": "STRING"}

Specs = Sequence[tuple[str, str, list[int]]]


class Ensemble(Processes):
    """Triton's ensemble in one server."""

    name = "ensemble"
    title = "Triton's ensemble, Python before and after"

    def __init__(self, models: Path = MODELS) -> None:
        super().__init__()
        self._models = models

    def start(self, folder: Path, workloads: Sequence[ServingWorkload]) -> None:
        repository = folder / "models"
        by_model = {workload.model: workload for workload in workloads}
        for workload in by_model.values():
            publish(repository, workload, self._models / workload.model)
        names = [ensemble_of(model) for model in by_model]
        self.run(triton(folder, repository, names, "bench-ensemble", str(ROOT)))

    def model(self, workload: ServingWorkload) -> str:
        return ensemble_of(workload.model)

    def requests(self, workload: ServingWorkload) -> Sequence[Arrays]:
        """Inputs with a second dimension, since Triton has no inputs of one dimension."""
        return [
            {name: array if array.ndim > 1 else array[:, np.newaxis] for name, array in request.items()}
            for request in workload.requests
        ]


def ensemble_of(model: str) -> str:
    return f"{model}_ensemble"


def publish(repository: Path, workload: ServingWorkload, original: Path) -> None:
    """Write the model, its ensemble, and the steps before and after, which all models of a kind share."""
    model, kind = workload.model, workload.kind
    given, prepared = tensor_specs(workload.requests[0]), tensor_specs(workload.prepared[0])
    said, answered = tensor_specs(workload.predicted[0]), tensor_specs(workload.answers[0])
    shutil.copytree(original, repository / model)
    if not (repository / f"{kind}_before").exists():
        _python_step(repository / f"{kind}_before", "before", kind, given, prepared)
        _python_step(repository / f"{kind}_after", "after", kind, said, answered)
    folder = repository / ensemble_of(model)
    (folder / "1").mkdir(parents=True)
    steps = ",\n".join(
        _step(name, inputs, outputs)
        for name, inputs, outputs in (
            (f"{kind}_before", given, prepared),
            (model, prepared, said),
            (f"{kind}_after", said, answered),
        )
    )
    text = _head(folder.name, "platform", "ensemble", kind, given, answered)
    (folder / "config.pbtxt").write_text(f"{text}ensemble_scheduling {{ step [\n{steps}\n] }}\n")


def _python_step(folder: Path, side: str, kind: str, inputs: Specs, outputs: Specs) -> None:
    (folder / "1").mkdir(parents=True)
    shutil.copy(PROGRAM, folder / "1/model.py")
    count = INSTANCES.get((side, kind), 1)
    more = (
        "dynamic_batching { max_queue_delay_microseconds: 0 }\n"
        f"instance_group [ {{ count: {count} kind: KIND_CPU }} ]\n"
        f'parameters {{ key: "side" value {{ string_value: "{side}" }} }}\n'
        f'parameters {{ key: "kind" value {{ string_value: "{kind}" }} }}\n'
    )
    (folder / "config.pbtxt").write_text(_head(folder.name, "backend", "python", kind, inputs, outputs) + more)


def _head(name: str, how: str, which: str, kind: str, inputs: Specs, outputs: Specs) -> str:
    return (
        f'name: "{name}"\n{how}: "{which}"\nmax_batch_size: {ROWS[kind]}\n'
        f"input [ {_tensors(inputs)} ]\noutput [ {_tensors(outputs)} ]\n"
    )


def _tensors(specs: Specs) -> str:
    return ", ".join(
        f'{{ name: "{name}" data_type: TYPE_{TRITON_TYPES.get(datatype, datatype)} dims: {shape or [1]} }}'
        for name, datatype, shape in specs
    )


def _step(name: str, inputs: Specs, outputs: Specs) -> str:
    given = " ".join(f'input_map {{ key: "{each[0]}" value: "{each[0]}" }}' for each in inputs)
    made = " ".join(f'output_map {{ key: "{each[0]}" value: "{each[0]}" }}' for each in outputs)
    return f'  {{ model_name: "{name}" model_version: -1 {given} {made} }}'
