"""Values of preprocess that postprocess reads: only named ones travel, and the model's outputs come first."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from triptych.contract import Contract, Plan
from triptych.contract.verification.trial import trial
from triptych.datatypes import Array
from triptych.errors import ContractViolation

Step = dict[str, Any]


def tensor(name: str, datatype: str, *dims: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1, *dims], **more}


def pooled(*after: Step, before: Sequence[Step] = (), required: bool = True, outputs: Any = None) -> Contract:
    """A text model with its mask: ids and mask to the places of a text."""
    document = {
        "apiVersion": "triptych.dev/v1",
        "kind": "Contract",
        "family": "embedding",
        "max_rows": 8,
        "inputs": [tensor("ids", "INT64", 3), tensor("mask", "INT64", 3, required=required), tensor("id", "BYTES")],
        "preprocess": list(before),
        "model": {"inputs": [tensor("ids", "INT64", 3)], "outputs": [tensor("places", "FP32", 3, 2)]},
        "postprocess": list(after),
        "outputs": outputs or [tensor("embedding", "FP32", 2)],
    }
    return Contract.model_validate_json(json.dumps(document))


POOL = {"op": "mean_pool", "input": "places", "mask": "mask", "output": "embedding"}


def request(rows: int = 2) -> dict[str, Array]:
    ids = np.empty(rows, np.object_)
    ids[:] = [b"row %d" % row for row in range(rows)]
    mask = np.tile(np.array([1, 1, 0], np.int64), (rows, 1))
    return {"ids": np.ones((rows, 3), np.int64), "mask": mask, "id": ids}


def test_postprocess_reads_a_mask_that_the_model_does_not_take() -> None:
    plan = Plan(pooled(POOL))
    values = plan.preprocess(request())
    assert list(plan.model_inputs(values)) == ["ids"]
    assert list(plan.carried_values(values)) == ["mask"]
    places = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    answer = plan.postprocess({"places": places, **plan.carried_values(values)})
    assert answer["embedding"].tolist() == [[1, 2], [7, 8]]


def test_values_that_nothing_reads_do_not_travel() -> None:
    contract = pooled({"op": "mean_pool", "input": "places", "output": "embedding"})
    assert contract.carried == {}
    values = Plan(contract).preprocess(request())
    assert list(values) == ["ids"]
    assert Plan(contract).model_inputs(values) is values


def test_an_output_of_the_model_and_a_result_of_postprocess_come_before_a_value_of_preprocess() -> None:
    before = [{"op": "rename", "input": "ids", "output": "places"}, {"op": "rename", "input": "ids", "output": "twice"}]
    after: list[Step] = [
        {"op": "scale", "input": "places", "scale": 2.0, "output": "twice"},
        {**POOL, "input": "twice"},
    ]
    assert pooled(*after, before=before).carried == {"mask": True}


def test_a_value_is_that_of_the_end_of_preprocess() -> None:
    plan = Plan(pooled(POOL, before=[{"op": "cast", "input": "mask", "datatype": "BOOL"}]))
    assert plan.preprocess(request())["mask"].dtype == np.bool_


def test_an_input_becomes_an_output_by_a_step_and_never_by_its_name_alone() -> None:
    outputs = [tensor("id", "BYTES"), tensor("embedding", "FP32", 2)]
    with pytest.raises(ValidationError, match="postprocess ends without 'id'; there are: embedding, places"):
        pooled(POOL, outputs=outputs)
    echo = {"op": "rename", "input": "id", "output": "of"}
    plan = Plan(pooled(POOL, echo, outputs=[tensor("of", "BYTES"), tensor("embedding", "FP32", 2)]))
    values = plan.preprocess(request())
    answer = plan.postprocess({"places": np.ones((2, 3, 2), np.float32), **plan.carried_values(values)})
    assert answer["of"].tolist() == [b"row 0", b"row 1"]


def test_an_optional_input_may_be_missing_in_postprocess_too() -> None:
    with pytest.raises(ValidationError, match="input 'mask' is optional and may be missing; put 'require' before"):
        pooled(POOL, required=False)
    filled = pooled(POOL, required=False, before=[{"op": "require", "input": "mask", "default": 1}])
    values = Plan(filled).preprocess({name: array for name, array in request().items() if name != "mask"})
    assert values["mask"].tolist() == [[1, 1, 1]] * 2


def test_what_is_nowhere_is_named() -> None:
    with pytest.raises(ValidationError, match="no value 'masks' at this point; there are: id, ids, mask, places"):
        pooled({**POOL, "mask": "masks"})


def test_the_trial_runs_postprocess_on_values_of_preprocess() -> None:
    assert trial(pooled(POOL)) == []
    (problem,) = trial(pooled(POOL, before=[{"op": "reshape", "input": "mask", "shape": [3, 1]}]))
    assert problem.location == ("postprocess", 0)
    assert "mean_pool: want [n,t,d] and a mask [n,t], got FP32[2,3,2] and BOOL[2,3,1]" in problem.text


def test_the_trial_gives_open_dimensions_of_outputs_the_sizes_of_the_inputs() -> None:
    document = pooled(POOL).model_dump(mode="json", by_alias=True, exclude_none=True)
    document["inputs"][0]["shape"] = document["model"]["inputs"][0]["shape"] = [-1, -1]
    cut = [{"op": "slice", "input": "ids", "stop": 5}, {"op": "rename", "input": "ids", "output": "m"}]
    document["preprocess"] = cut
    document["postprocess"][0]["mask"] = "m"
    document["model"]["outputs"][0]["shape"] = [-1, -1, 2]
    assert trial(Contract.model_validate_json(json.dumps(document))) == []
    document["model"]["outputs"][0]["shape"] = [-1, 7, 2]
    (problem,) = trial(Contract.model_validate_json(json.dumps(document)))
    assert "got FP32[2,7,2] and BOOL[2,5]" in problem.text


def test_postprocess_without_the_value_is_a_fault_of_the_contract() -> None:
    plan = Plan(pooled(POOL))
    places: dict[str, Array] = {"places": np.ones((2, 3, 2), np.float32)}
    assert plan.missing(places) == ["mask"]
    with pytest.raises(ContractViolation, match="mask"):
        plan.postprocess(places)


def detector(*after: Step) -> Contract:
    document = {
        "apiVersion": "triptych.dev/v1",
        "kind": "Contract",
        "family": "detector",
        "max_rows": 4,
        "inputs": [tensor("image", "BYTES")],
        "preprocess": [
            {"op": "decode_image", "input": "image", "output": "picture"},
            {"op": "image_size", "input": "picture", "output": "size"},
            {"op": "resize", "input": "picture", "width": 32, "height": 24, "fit": "inside", "output": "small"},
            {"op": "pad", "input": "small", "width": 32, "height": 24, "output": "pixels"},
        ],
        "model": {"inputs": [tensor("pixels", "UINT8", 24, 32, 3)], "outputs": [tensor("boxes", "FP32", -1, 4)]},
        "postprocess": list(after),
        "outputs": [tensor("boxes", "FP32", -1, 4)],
    }
    return Contract.model_validate_json(json.dumps(document))


def picture(width: int, height: int) -> bytes:
    return bytes(cv2.imencode(".png", np.zeros((height, width, 3), np.uint8))[1])


def test_boxes_come_back_in_the_pixels_of_each_caller(files: Callable[..., Array]) -> None:
    plan = Plan(detector({"op": "scale_boxes", "input": "boxes", "size": "size", "width": 32, "height": 24}))
    values = plan.preprocess({"image": files(picture(64, 48), picture(64, 24), picture(12, 48))})
    assert plan.carried_values(values)["size"].tolist() == [[64, 48], [64, 24], [12, 48]]
    boxes = np.tile(np.array([[0, 0, 32, 24], [16, 12, 17, 13]], np.float32), (3, 1, 1))
    answer = plan.postprocess({"boxes": boxes, **plan.carried_values(values)})["boxes"]
    assert answer.tolist() == [
        [[0, 0, 64, 48], [32, 24, 34, 26]],
        [[0, 0, 64, 24], [32, 12, 34, 14]],
        [[0, 0, 12, 48], [6, 24, 8, 26]],
    ]
    assert trial(plan.contract) == []


def test_pictures_of_different_sizes_are_no_tensor_and_do_not_travel() -> None:
    contract = detector({"op": "image_size", "input": "picture", "output": "other"})
    (problem,) = trial(contract)
    assert problem.text == "postprocess reads 'picture': want an array, got pictures of different sizes"
