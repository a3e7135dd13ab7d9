"""Pre- and postprocessing by the contract alone."""

from __future__ import annotations

import json
import weakref
from typing import Any

import cv2
import numpy as np
import pytest

from triptych.contract import Contract, Plan
from triptych.contract.steps.image_files import decoding
from triptych.contract.steps.pictures import decode_image
from triptych.contract.trace import trace
from triptych.contract.verification.trial import trial
from triptych.errors import ContractViolation, InvalidInput

F = np.float32
RNG = np.random.default_rng(11)


def picture(height: int, width: int) -> bytes:
    return bytes(cv2.imencode(".png", RNG.integers(0, 256, (height, width, 3), np.uint8))[1])


def spoilt(document: dict[str, Any]) -> Contract:
    return Contract.model_validate_json(json.dumps(document))


def test_sales_features_are_history_price_promotion_side_by_side(sales_plan: Plan) -> None:
    inputs = {
        "history": RNG.uniform(0, 9, (2, 28)).astype(F),
        "price": RNG.uniform(1, 2, (2, 7)).astype(F),
        "promotion": RNG.integers(0, 2, (2, 7)).astype(np.bool_),
    }
    tensors = sales_plan.preprocess(inputs)
    assert list(tensors) == ["features"]
    np.testing.assert_array_equal(tensors["features"][:, :28], inputs["history"])
    np.testing.assert_array_equal(tensors["features"][:, 28:35], inputs["price"])
    np.testing.assert_array_equal(tensors["features"][:, 35:], inputs["promotion"].astype(F))


def test_inputs_of_other_names_are_refused_or_ignored(digits_document: dict[str, Any]) -> None:
    inputs = {"image": np.array([picture(4, 4)], np.object_), "other": np.zeros((9, 1), F)}
    refusing = Plan(spoilt(digits_document))
    with pytest.raises(InvalidInput, match="input 'other': want one of image, box, got an input of another name"):
        refusing.check_inputs(refusing.of_contract(inputs))
    ignoring = Plan(spoilt(digits_document | {"unknown_inputs": "ignore"}))
    assert list(ignoring.of_contract(inputs)) == ["image"]
    moments = [*trace(ignoring, inputs, {}, None)]
    assert [list(moment.values) for moment in moments][0] == ["image"]


def test_sales_units_are_whole_never_negative_and_add_up(sales_plan: Plan) -> None:
    forecast = np.array([[-3, 0.4, 0.6, 1, 2, 3, 4.4]], F)
    answer = sales_plan.postprocess({"forecast": forecast})
    assert answer["units"].tolist() == [[0, 0, 1, 1, 2, 3, 4]]
    assert answer["total"].tolist() == [11]
    assert answer["units"].dtype == answer["total"].dtype == np.int64
    assert forecast[0, 0] == -3


def test_steps_do_not_write_into_the_tensors_they_are_given(digits_plan: Plan, files: Any) -> None:
    logits = RNG.normal(size=(2, 10)).astype(F)
    logits.flags.writeable = False
    box = np.array([[0, 0, 3, 3]], np.int32)
    box.flags.writeable = False
    digits_plan.postprocess({"logits": logits}, {"top_k": 3})
    digits_plan.preprocess({"image": files(picture(9, 9)), "box": box})


@pytest.mark.parametrize("boxes", [{}, {"box": np.full((9, 4), 5, np.int32)}])
def test_the_pictures_of_a_request_are_never_unpacked_together(
    digits_plan: Plan, files: Any, boxes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def watched(*arguments: Any) -> Any:
        alive.append(sum(each() is not None for each in unpacked))
        made = decode(*arguments)
        unpacked.append(weakref.ref(made))
        return made

    decode = decoding.decode
    monkeypatch.setattr(decode_image, "decode", watched)
    digits_plan.preprocess({"image": files(*(picture(20, 20 + row) for row in range(9))), **boxes})
    assert len(alive) == 9
    assert max(alive) <= 1  # the one before, until the next is there


def test_digits_pixels_are_the_result_of_the_steps_one_by_one(digits_plan: Plan, files: Any) -> None:
    data = picture(50, 70)
    pixels = digits_plan.preprocess({"image": files(data), "box": np.array([[5, 6, 40, 30]], np.int32)})["pixels"]
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    rgb = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    hsv = cv2.resize(cv2.cvtColor(rgb[6:36, 5:45], cv2.COLOR_RGB2HSV), (32, 32), interpolation=cv2.INTER_AREA)
    expected = hsv.astype(F) * np.array([0.005586592, 0.003921569, 0.003921569], F)
    np.testing.assert_array_equal(pixels[0], expected.transpose(2, 0, 1))


def test_digits_answer_has_as_many_words_as_were_asked_for(digits_plan: Plan) -> None:
    logits = np.zeros((1, 10), F)
    logits[0, 5], logits[0, 7] = 3, 2
    answer = digits_plan.postprocess({"logits": logits}, digits_plan.check_parameters({"top_k": 2}))
    assert answer["label"].tolist() == [["fünf".encode(), b"sieben"]]
    assert answer["class_id"].tolist() == [[5, 7]]
    total = np.exp(3) + np.exp(2) + 8
    np.testing.assert_allclose(answer["score"], [[np.exp(3) / total, np.exp(2) / total]], rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
def test_each_row_of_a_batch_gets_what_it_gets_alone(digits_plan: Plan, files: Any, rows: int) -> None:
    images = [picture(10 + row % 7, 12 + row % 5) for row in range(rows)]
    batch = digits_plan.preprocess({"image": files(*images)})["pixels"]
    logits = RNG.normal(size=(rows, 10)).astype(F)
    logits[:, 3] = logits[:, 4]
    answers = digits_plan.postprocess({"logits": logits}, {"top_k": 10})
    for row in range(rows):
        alone = digits_plan.preprocess({"image": files(images[row])})["pixels"]
        np.testing.assert_array_equal(batch[row : row + 1], alone)
        answer = digits_plan.postprocess({"logits": logits[row : row + 1]}, {"top_k": 10})
        for name, value in answer.items():
            np.testing.assert_array_equal(answers[name][row : row + 1], value)


def test_nan_from_the_model_is_our_fault_and_not_the_callers(sales_plan: Plan) -> None:
    with pytest.raises(ContractViolation, match=r"postprocess: input 'forecast': want values that fit INT64"):
        sales_plan.postprocess({"forecast": np.full((1, 7), np.nan, F)})


def test_a_bad_row_of_the_caller_stays_the_callers(digits_plan: Plan, files: Any) -> None:
    with pytest.raises(InvalidInput, match="input 'box'"):
        digits_plan.preprocess({"image": files(picture(5, 5)), "box": np.array([[0, 0, 6, 5]], np.int32)})


def test_a_step_that_breaks_says_which_it_was(digits_document: dict[str, Any], files: Any) -> None:
    digits_document["preprocess"][3] = {"op": "transpose", "input": "picture", "order": [2, 1, 3]}  # of no array
    plan = Plan(spoilt(digits_document))
    with pytest.raises(ContractViolation, match=r"^preprocess\[3\] transpose: "):
        plan.preprocess({"image": files(picture(5, 5), picture(6, 6))})


def test_a_step_that_lacks_an_array_says_what_makes_one(digits_document: dict[str, Any], files: Any) -> None:
    del digits_document["preprocess"][3]  # no resize: a list of pictures reaches layout
    plan = Plan(spoilt(digits_document))
    with pytest.raises(ContractViolation, match="layout: want pictures of one size, by `resize`"):
        plan.preprocess({"image": files(picture(5, 5), picture(6, 6))})


def test_a_result_that_the_model_does_not_take_is_our_fault(digits_document: dict[str, Any], files: Any) -> None:
    digits_document["preprocess"][5]["datatype"] = "UINT8"
    with pytest.raises(ContractViolation, match=r"model input 'pixels': .*got UINT8\[1,3,32,32\]"):
        Plan(spoilt(digits_document)).preprocess({"image": files(picture(5, 5))})


def test_overflow_warnings_stay_inside(sales_plan: Plan) -> None:
    with pytest.raises(ContractViolation):
        sales_plan.postprocess({"forecast": np.full((1, 7), np.inf, F)})


# --- the trial run


def test_the_trial_run_finds_nothing_in_good_contracts(digits: Contract, sales: Contract) -> None:
    assert trial(digits) == []
    assert trial(sales) == []


def test_the_trial_run_finds_a_step_that_must_fail(digits_document: dict[str, Any]) -> None:
    digits_document["preprocess"][3:5] = []
    found = trial(spoilt(digits_document))
    assert [problem.location for problem in found] == [("preprocess", 3)]
    assert found[0].text.startswith("layout fails on made-up rows: ")


def test_the_trial_run_finds_a_datatype_that_does_not_fit(sales_document: dict[str, Any]) -> None:
    sales_document["postprocess"][2]["datatype"] = "INT32"
    found = trial(spoilt(sales_document))
    assert [problem.location for problem in found] == [("outputs", 0)]
    assert "want INT64[n,7] with n = 2, got INT32[2,7]" in found[0].text


def test_the_trial_run_goes_without_optional_inputs_too(sales_document: dict[str, Any]) -> None:
    sales_document["inputs"][1]["required"] = False
    sales_document["preprocess"].insert(0, {"op": "require", "input": "price", "default": 1})
    assert trial(spoilt(sales_document)) == []
