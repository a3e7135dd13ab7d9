"""Messages of many fields and few bytes do not fill the memory of a server, alone or on streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.fakes.scripted.process import CHART_BYTES, ScriptedStage, scripted
from triptych.server import SERVERS

MIB = 1 << 20
EMPTY_INPUTS = b"\x2a\0" * (MIB // 2 - 1)  # a MiB on the wire, 45 in memory
INFER, STREAM = "/inference.GRPCInferenceService/ModelInfer", "/inference.GRPCInferenceService/ModelStreamInfer"


@pytest.fixture(scope="module", params=sorted(SERVERS))
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedStage]:
    with scripted(request.param, tmp_path_factory.mktemp("stage"), connection_age_s=0) as running:
        yield running


def test_a_large_message_of_empty_inputs_is_refused_before_it_takes_memory(stage: ScriptedStage) -> None:
    call: Any = stage.channel.unary_unary(INFER)
    with pytest.raises(grpc.RpcError) as caught:
        call(EMPTY_INPUTS * 32, timeout=60)
    failure: Any = caught.value
    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "this one would take too much memory" in failure.details()
    assert stage.peak_bytes() < CHART_BYTES


def test_messages_of_a_stream_are_parsed_one_after_another(stage: ScriptedStage) -> None:
    call: Any = stage.channel.stream_stream(STREAM)
    Path(f"/proc/{stage.part.pid}/clear_refs").write_text("5")  # forgets the peak of the test before
    answers = list(call(iter([EMPTY_INPUTS] * 60), timeout=60))
    assert len(answers) == 60
    assert all(b"want at most 1024 inputs, got 524287" in answer for answer in answers)
    assert stage.peak_bytes() < CHART_BYTES
