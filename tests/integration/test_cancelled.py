"""Hundreds of cancelled calls in the stack, beside others that are not cancelled."""

from __future__ import annotations

import random
import time
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from local.stack import LocalStack
from tests.integration.conftest import INFER, Caller, MakeStack
from tests.integration.load import until
from tests.integration.messages import infer_request, noise_picture, objects, outputs_of, sales
from tests.metric_samples import samples_by_label
from triptych.client.contract_cache import CONTROLLER_SERVICE
from triptych.protocol import controller_pb2 as cp

PARTS = ("preprocess", "postprocess", "controller")
CODES = {"OK", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}  # the last: too late for the queue that there is
COUNTRIES = [
    "ae",
    "ar",
    "at",
    "au",
    "be",
    "bg",
    "br",
    "ca",
    "ch",
    "cl",
    "cn",
    "co",
    "cz",
    "dk",
    "ee",
    "eg",
    "es",
    "fi",
    "fr",
    "gb",
]


def test_cancelled_calls_harm_no_other_and_leave_nothing(make_stack: MakeStack) -> None:
    stack = make_stack()
    caller, moments = Caller(stack.address("preprocess")), random.Random(13)
    picture = noise_picture(400, 300)
    good = infer_request("sales_forecast_de", sales())
    right = outputs_of(caller.infer(good))
    infer: Any = caller.channel.unary_unary(INFER)
    persistent, leaving = [], []
    for number in range(400):
        if number % 4 == 0:
            persistent.append(infer.future(good.SerializeToString(), timeout=60))
            continue
        one = infer_request("digits_fr", {"image": objects(picture)})
        if number % 4 == 1:  # cold: it waits for a load
            one = infer_request(f"sales_forecast_{COUNTRIES[number // 40]}", sales())
        elif number % 4 == 2:  # in a batch with those who stay
            one = good
        late_s = moments.choice((60, moments.uniform(0.001, 0.05)))
        leaving.append(infer.future(one.SerializeToString(), timeout=late_s))
        if number % 8 > 3:
            time.sleep(moments.uniform(0, 0.01))
        if late_s == 60:
            leaving[moments.randrange(len(leaving))].cancel()
    for call in leaving:
        call.cancel()
    for call in persistent:
        answer = outputs_of(pb.ModelInferResponse.FromString(call.result(60)))
        for name, values in right.items():
            np.testing.assert_allclose(answer[name], values, rtol=1e-5)
    _assert_nothing_stays(stack)


def test_cancelled_loads_leave_nothing_in_the_controller(make_stack: MakeStack) -> None:
    stack = make_stack()
    with grpc.insecure_channel(stack.address("controller")) as channel:
        ensure: Any = channel.unary_unary(f"/{CONTROLLER_SERVICE.full_name}/EnsureLoaded")
        for number in range(200):
            request = cp.EnsureLoadedRequest(model=f"sales_forecast_{COUNTRIES[number % 10]}", version=1)
            call = ensure.future(request.SerializeToString(), timeout=60 if number % 2 else 0.01)
            time.sleep(0.002 * (number % 5))
            call.cancel()
    _assert_nothing_stays(stack)


def _assert_nothing_stays(stack: LocalStack) -> None:
    for part in PARTS:
        until(lambda part=part: samples_by_label(stack.metrics_url(part), "triptych_in_flight", "stage").total() == 0)  # type: ignore[misc]
        log = stack.log(part).read_text()
        assert '"ERROR"' not in log, log
        assert "Traceback" not in log
        assert samples_by_label(stack.metrics_url(part), "triptych_requests_total", "code").keys() <= CODES
