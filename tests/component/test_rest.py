"""The REST server on a real port, before a servicer of its own: paths, errors, callers that leave, the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.component.running_rest import BODY, INFER, Running, rest_server


@pytest.fixture
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    async with rest_server(**getattr(request, "param", {})) as started:
        yield started


async def test_each_path_answers(running: Running) -> None:
    assert (await running.ask("GET", "/v2/health/live"))[:2] == (200, {"live": True})
    assert (await running.ask("GET", "/v2/health/ready"))[:2] == (200, {"ready": True})
    status, about, _ = await running.ask("GET", "/v2")
    assert (status, about["name"]) == (200, "triptych-preprocess")
    assert (await running.ask("GET", "/v2/models/echo/ready"))[:2] == (200, {"name": "echo", "ready": True})
    assert (await running.ask("GET", "/v2/models/no/versions/1/ready"))[:2] == (503, {"name": "no", "ready": False})
    trace = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    status, answer, _ = await running.ask("POST", INFER, BODY, traceparent=trace)
    assert (status, answer["parameters"]) == (200, {"traceparent": trace})


async def test_errors_have_the_status_and_the_sentence_of_the_table(running: Running) -> None:
    assert (await running.ask("GET", "/v2/models/no"))[:2] == (404, {"error": "unknown model or family 'no'"})
    status, answer, headers = await running.ask("POST", "/v2/models/busy/infer", BODY)
    assert (status, answer, headers["retry-after"]) == (429, {"error": "later (request 7)"}, "2")
    status, answer, _ = await running.ask("POST", "/v2/models/broken/infer", BODY)
    assert status == 500
    assert "secret" not in answer["error"]
    assert (await running.ask("POST", INFER, b"{"))[0] == 400
    status, answer, _ = await running.ask("GET", "/v2/repository/index")
    assert (status, answer["error"][:11]) == (404, "want one of")
    assert (await running.ask("GET", INFER))[0] == 405
    status, answer, _ = await running.ask("POST", INFER, BODY, Content_Encoding="gzip")
    assert (status, "Content-Encoding" in answer["error"]) == (400, True)
    assert (await running.ask("POST", INFER, BODY, Inference_Header_Content_Length="-1"))[0] == 400


@pytest.mark.parametrize("running", [{"rest_max_json_bytes": 1024, "max_message_bytes": 4096}], indirect=True)
async def test_json_and_bodies_have_limits(running: Running) -> None:
    status, answer, _ = await running.ask("POST", INFER, b'"' + b"x" * 1024 + b'"')
    assert (status, answer["error"][:31]) == (413, "want at most 1024 bytes of JSON")
    status, answer, _ = await running.ask("POST", INFER, b"x" * 5000)
    assert (status, answer["error"]) == (429, "want a body of at most 4096 bytes, got more")
    assert (await running.ask("POST", INFER, BODY))[0] == 200


async def test_a_caller_that_leaves_cancels_its_request(running: Running) -> None:
    _, writer = await running.connect("hold")
    await running.servicer.holding.wait()
    writer.close()
    await asyncio.wait_for(running.servicer.cancelled.wait(), 10)


async def test_a_request_in_flight_is_answered_while_the_server_stops(running: Running) -> None:
    asking = asyncio.create_task(running.ask("POST", "/v2/models/hold/infer", BODY))
    await running.servicer.holding.wait()
    closing = asyncio.create_task(running.server.close())
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.shield(closing), 0.3)
    running.servicer.release.set()
    assert (await asking)[0] == 200
    await closing


@pytest.mark.parametrize("running", [{"grace_s": 1}], indirect=True)
async def test_a_request_that_takes_longer_than_the_grace_period_is_cancelled(running: Running) -> None:
    asking = asyncio.create_task(running.ask("POST", "/v2/models/hold/infer", BODY))
    await running.servicer.holding.wait()
    await running.server.close()
    assert running.servicer.cancelled.is_set()
    assert (await asking)[:2] == (503, {"error": "this replica is stopping; send the request again (request 7)"})
