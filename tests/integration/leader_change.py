"""Change of leader of two controllers under load, while Triton loads models."""

from __future__ import annotations

import json
from functools import partial
from typing import Literal

import grpc

from local.environments import ROOT
from tests.integration.conftest import INFER, Caller
from tests.integration.load import Load, until
from tests.integration.messages import infer_request, sales
from tests.integration.replicas import STOP_S, Replicas

SALES = sorted(path.name for path in (ROOT / "model-repository").glob("sales_forecast_*"))
WARM, COLD = SALES[0], SALES[1:9]
DEADLINE_S = 60.0

Goes = Literal["killed", "stopped"]


def change_leader_under_load(replicas: Replicas, goes: Goes) -> None:
    """Stop the leader under load. Fails if a request is lost or a model is loaded twice."""
    replicas.start("predictor", "controller-0")
    until(partial(replicas.leads, "controller-0"))
    replicas.start("controller-1", "postprocess", "preprocess")
    caller = Caller(replicas.address)
    with Load(caller, infer_request(WARM, sales()), callers=2) as load:
        infer = caller.channel.unary_unary(INFER)
        waiting = [
            infer.future(infer_request(model, sales()).SerializeToString(), timeout=DEADLINE_S) for model in COLD
        ]
        until(lambda: bool(_loaded_by(replicas, "controller-0") & set(COLD)))
        leader = replicas.parts["controller-0"]
        if goes == "killed":
            leader.kill()
        else:
            assert leader.stop(STOP_S)
        load.wait_for_answers(50)
        until(partial(replicas.leads, "controller-1"))
        for model, future in zip(COLD, waiting, strict=True):
            until(future.done, DEADLINE_S)
            assert future.code() is grpc.StatusCode.OK, (model, future.details())
    assert load.refusals == [], [f"{each}" for each in load.refusals]
    if goes == "killed":  # one that is stopped sees its loads through
        assert _loaded_by(replicas, "controller-1") & set(COLD)
    reported = replicas.log("predictor")
    for model in (WARM, *COLD):
        assert reported.count(f"successfully loaded '{model}'") == 1, model


def _loaded_by(replicas: Replicas, name: str) -> set[str]:
    """Models that the replica has loaded successfully."""
    said = (json.loads(line) for line in replicas.log(name).splitlines() if line.startswith("{"))
    return {each["model"] for each in said if each["message"] == "load" and each["outcome"] == "ok"}
