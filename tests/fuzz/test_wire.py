"""Short run of the protocol fuzzer, and a check that it finds planted faults."""

from __future__ import annotations

import pytest
from tritonclient.grpc import service_pb2 as pb

from tests.fuzz.wire import Finding, check, fuzz


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_nearly_right_messages_are_answered_or_refused(seed: int) -> None:
    count = await fuzz(seed, seconds=60, most=700)
    assert count.messages >= 700
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND"} <= set(count.codes)


@pytest.mark.parametrize(
    ("code", "text", "answer"),
    [
        ("INTERNAL", "", pb.ModelInferResponse()),
        ("NOT_FOUND", "x" * 5_000, pb.ModelInferResponse()),
        ("OK", "", pb.ModelInferResponse()),
    ],
)
def test_the_fuzzer_finds_a_wrong_answer(code: str, text: str, answer: pb.ModelInferResponse) -> None:
    if code == "OK":
        answer.outputs.add(name="a", datatype="FP32", shape=[1])
        answer.outputs.add(name="b", datatype="FP32", shape=[2])
        answer.raw_output_contents.extend([bytes(4), bytes(8)])
    with pytest.raises(Finding):
        check(code, text, answer.SerializeToString(), b"")
