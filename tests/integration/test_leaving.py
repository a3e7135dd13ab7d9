"""SIGTERM of one part under load: accepted requests are answered, later ones are refused."""

from __future__ import annotations

import grpc

from tests.integration.conftest import Caller, MakeStack
from tests.integration.load import Load, answers, until
from tests.integration.messages import infer_request, outputs_of, sales

AWAY = grpc.StatusCode.UNAVAILABLE
GOOD = infer_request("sales_forecast_de", sales())


def test_preprocess_loses_no_answer(make_stack: MakeStack) -> None:
    stack = make_stack()
    caller = Caller(stack.address("preprocess"))
    right = outputs_of(caller.infer(GOOD))
    with Load(caller, GOOD, persistent=False) as load:
        assert stack.stop_component("preprocess"), "SIGTERM was not enough"
        load.join()
    assert all(answer == right for answer in load.answers)
    assert {code for code, _ in load.refusals} == {AWAY}
    # A new connection is refused, or reset before it was accepted; a call that was accepted is not cut off.
    calls = [text for _, text in load.refusals if not text.startswith("failed to connect")]
    assert not [text for text in calls if "Connection reset" in text or "Socket closed" in text]


def test_postprocess_is_named_while_it_is_unavailable_and_no_answer_is_wrong(make_stack: MakeStack) -> None:
    stack = make_stack()
    caller = Caller(stack.address("preprocess"))
    right = outputs_of(caller.infer(GOOD))
    with Load(caller, GOOD) as load:
        assert stack.stop_component("postprocess"), "SIGTERM was not enough"
        until(lambda: bool(load.refusals))
        stack.start_component("postprocess")
        load.wait_for_answers(100)
    assert all(answer == right for answer in load.answers)
    assert {code for code, _ in load.refusals} == {AWAY}
    assert not [text for _, text in load.refusals if not text.startswith("postprocess at ")]


def test_the_controller_is_not_missed_by_what_is_loaded(make_stack: MakeStack) -> None:
    stack = make_stack()
    caller = Caller(stack.address("preprocess"))
    right = outputs_of(caller.infer(GOOD))
    with Load(caller, GOOD) as load:
        assert stack.stop_component("controller"), "SIGTERM was not enough"
        load.wait_for_answers(100)
        stack.start_component("controller")
        until(lambda: answers(caller, infer_request("sales_forecast_fr", sales())))
        load.wait_for_answers(100)
    assert load.refusals == []
    assert all(answer == right for answer in load.answers)
