"""The predictor that a request goes to when the model cannot run on one of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from preprocess.catalog import Target
from preprocess.predictors import Predictors, _Predictor
from preprocess.settings import Settings
from triptych.client.transport import Transport
from triptych.errors import ModelFailing, NotLoaded, StageUnavailable
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call
from triptych.protocol.status import Relayed

LOST = ModelFailing("the model's process in predictor at a:8001 does not answer")
Outcome = BaseException | None


class Tritons:
    """Outcomes of the calls to each address in turn, the last for ever; None is an answer."""

    def __init__(self, **outcomes: list[Outcome]) -> None:
        self.outcomes, self.asked = outcomes, list[str]()

    async def infer(self, predictor: _Predictor, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        self.asked.append(predictor.address)
        mine = self.outcomes[predictor.address]
        if error := mine.pop(0) if len(mine) > 1 else mine[0]:
            raise error
        return pb.ModelInferResponse(model_name="m", id=predictor.address)


class Controller:
    """A controller that always names the same predictors of the version."""

    def __init__(self, *predictors: str, refusal: BaseException | None = None) -> None:
        self.predictors, self.refusal, self.asked = predictors, refusal, list[tuple[str, ...]]()

    async def call(self, method: str, request: cp.EnsureLoadedRequest, call: Call) -> cp.EnsureLoadedReply:
        self.asked.append(tuple(request.failing))
        if self.refusal:
            raise self.refusal
        return cp.EnsureLoadedReply(predictors=self.predictors)


Predict = Callable[..., Awaitable[str]]


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch) -> Predict:
    """The address whose answer the caller gets, with the version placed on `placed`."""

    async def answered_by(tritons: Tritons, controller: Controller, *placed: str) -> str:
        monkeypatch.setattr(_Predictor, "infer", lambda own, *given: tritons.infer(own, *given))
        made: Any = controller
        predictors = Predictors(Settings(), made, Transport("grpcio"))  # resolves no address
        tensors = {"x": np.zeros((1, 2), np.float32)}
        try:
            answer = await predictors.predict(Target("family", "m", 1, 100, placed), tensors, Call.within(10))
            return str(answer.id)
        finally:
            await predictors.close()

    return answered_by


async def test_where_the_model_cannot_run_the_next_triton_answers_without_a_wait(predict: Predict) -> None:
    tritons, controller = Tritons(a=[LOST], b=[None]), Controller("a", "b")
    assert await predict(tritons, controller, "a", "b") == "b"
    assert (tritons.asked, controller.asked) == (["a", "b"], [])


async def test_the_controller_is_informed_where_the_model_cannot_run_and_the_request_is_answered(
    predict: Predict,
) -> None:
    tritons, controller = Tritons(a=[LOST, None]), Controller("a")
    assert await predict(tritons, controller, "a") == "a"
    assert controller.asked == [("a",)]


async def test_a_request_that_ends_every_process_is_tried_three_times_at_most(predict: Predict) -> None:
    names = "abcdefgh"
    lost: dict[str, list[Outcome]] = {name: [LOST] for name in names}
    tritons, controller = Tritons(**lost), Controller(*names)
    with pytest.raises(ModelFailing, match="version 1 of model 'm' cannot run now; try again"):
        await predict(tritons, controller, *names)
    assert len(tritons.asked) == 3
    assert controller.asked == [("a", "b")]


async def test_the_controllers_error_of_such_a_model_is_the_answer(predict: Predict) -> None:
    refusal = Relayed(grpc.StatusCode.UNAVAILABLE, "loaded anew in 3 s", 3.0)
    tritons = Tritons(a=[LOST])
    with pytest.raises(Relayed, match="loaded anew in 3 s"):
        await predict(tritons, Controller(refusal=refusal), "a")
    assert tritons.asked == ["a"]


@pytest.mark.parametrize("gone", [NotLoaded("gone"), StageUnavailable("predictor", "a", "no")], ids=["gone", "away"])
async def test_a_triton_without_the_model_is_not_named_as_failing(predict: Predict, gone: Exception) -> None:
    tritons, controller = Tritons(a=[gone], b=[None]), Controller("b")
    assert await predict(tritons, controller, "a") == "b"
    assert controller.asked == [()]
