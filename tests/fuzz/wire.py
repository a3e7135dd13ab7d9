"""Fuzzer of the protocol: nearly valid messages through the real servicers, or to a running stage.

    python -m tests.fuzz.wire --seconds 60                              both stages in this process
    python -m tests.fuzz.wire --seconds 60 --address 127.0.0.1:9000     a running one (`make run`)

The exit status is 1, and the message is printed, if an answer is INTERNAL or inconsistent, if an error text or the log
grows with the message, or if memory grows. The seed is printed; seed and number identify a message.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from tritonclient.grpc import service_pb2 as pb

from tests.fuzz.wire_messages import changed, for_postprocess, valid
from tests.fuzz.wire_stages import Stages
from triptych.protocol.status import MAX_TEXT_BYTES
from triptych.protocol.tensors import decode_response
from triptych.server.inference_servicer import InferenceServicer
from triptych.telemetry import logs

LINE_BYTES = 8_192  # of log for one message
WARM_UP = 3_000  # messages, after which memory stays flat
MAX_MEMORY_BYTES = 4 << 30
GROWTH_BYTES = 64 << 20
WRONG_CODES = frozenset({"INTERNAL", "UNKNOWN", "DATA_LOSS"})


class Finding(Exception):
    """A fault, with the message that caused it."""

    def __init__(self, text: str, data: bytes) -> None:
        super().__init__(f"{text}; message ({len(data)} bytes): {data[:2_000].hex()}")


@dataclass
class Count:
    """Counters of a run."""

    codes: dict[str, int] = field(default_factory=dict)
    messages: int = 0
    memory_bytes: int = 0

    def add(self, code: str) -> None:
        self.codes[code] = self.codes.get(code, 0) + 1
        self.messages += 1
        if self.messages % WARM_UP == 0:
            used_bytes = psutil.Process().memory_info().rss
            self.memory_bytes = self.memory_bytes or used_bytes
            if used_bytes > self.memory_bytes + GROWTH_BYTES:
                raise Finding(f"memory grew from {self.memory_bytes >> 20} to {used_bytes >> 20} MiB", b"")


class LogMeter(logging.Handler):
    """Log handler that counts bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.written_bytes = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.written_bytes += len(self.format(record))

    def take(self) -> int:
        written_bytes, self.written_bytes = self.written_bytes, 0
        return written_bytes


def check(code: str, text: str, answer: bytes, data: bytes) -> None:
    """Check an answer. Raises `Finding`."""
    if code in WRONG_CODES:
        raise Finding(f"{code}: {text}", data)
    if len(text.encode()) > MAX_TEXT_BYTES + 100:
        raise Finding(f"a sentence of {len(text)} characters", data)
    if code == "OK":
        arrays = decode_response(pb.ModelInferResponse.FromString(answer))  # raises where sizes contradict each other
        if len({len(array) for array in arrays.values()}) != 1:
            raise Finding("outputs of different rows", data)


async def fuzz(seed: int, seconds: float, most: int = sys.maxsize) -> Count:
    """Fuzz both stages in this process."""
    rng, count, meter = random.Random(seed), Count(), LogMeter()
    meter.setFormatter(logs.formatter("fuzz"))
    logging.basicConfig(level="INFO", handlers=[meter], force=True)
    stages, until = Stages(), time.monotonic() + seconds
    try:
        while time.monotonic() < until and count.messages < most:
            if rng.random() < 0.2:
                await _stream(stages, rng, count)
            else:
                await _unary(stages, rng, count)
            if (written_bytes := meter.take()) > 20 * LINE_BYTES:
                raise Finding(f"{written_bytes} bytes of log for one call", b"")
    finally:
        stages.close()
    return count


def _message(rng: random.Random, servicer: InferenceServicer, stages: Stages) -> bytes:
    return changed(rng, valid(rng) if servicer is stages.preprocess else for_postprocess(rng))


def _servicer(rng: random.Random, stages: Stages) -> InferenceServicer:
    return stages.preprocess if rng.random() < 0.7 else stages.postprocess


async def _unary(stages: Stages, rng: random.Random, count: Count) -> None:
    servicer = _servicer(rng, stages)
    messages = [_message(rng, servicer, stages) for _ in range(rng.choice([1, 4]))]
    answers = await asyncio.gather(*(stages.infer(servicer, data) for data in messages))
    for data, (code, text, answer) in zip(messages, answers, strict=True):
        check(code, text, answer, data)
        count.add(code)


async def _stream(stages: Stages, rng: random.Random, count: Count) -> None:
    servicer = _servicer(rng, stages)
    messages = [_message(rng, servicer, stages) for _ in range(rng.choice([1, 3, 20]))]
    answers = await stages.stream(servicer, messages)
    if len(answers) != len(messages):
        raise Finding(f"{len(answers)} answers to {len(messages)} messages of a stream", messages[0])
    for data, answer in zip(messages, answers, strict=True):
        code, _, text = answer.error_message.partition(": ") if answer.error_message else ("OK", "", "")
        check(code, text, answer.infer_response.SerializeToString(), data)
        count.add(code)


def fuzz_address(seed: int, seconds: float, address: str, process: int) -> Count:
    """Fuzz a running preprocess; `process` is the id of the process whose memory must stay flat, 0 for none."""
    rng, count = random.Random(seed), Count()
    stage = psutil.Process(process) if process else None
    with grpc.insecure_channel(address) as channel:
        call: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            data, code, text, answer = changed(rng, valid(rng)), "OK", "", b""
            try:
                answer = call(data, timeout=20)
            except grpc.RpcError as error:
                failure: Any = error
                code, text = failure.code().name, failure.details()
            check(code, text, answer, data)
            count.add(code)
            if stage and count.messages % WARM_UP == 0:
                print(f"{count.messages} messages, {stage.memory_info().rss >> 20} MiB", flush=True)
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--address", default="", help="of a running preprocess; else both stages in this process")
    parser.add_argument("--process", type=int, default=0, help="id of the process behind it, to show its memory")
    parser.add_argument("--keep", type=Path, help="file for the finding")
    chosen = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    print(f"seed {chosen.seed}", flush=True)
    try:
        if chosen.address:
            count = fuzz_address(chosen.seed, chosen.seconds, chosen.address, chosen.process)
        else:
            count = asyncio.run(fuzz(chosen.seed, chosen.seconds))
    except Finding as finding:
        print(finding)
        if chosen.keep:
            chosen.keep.write_text(f"{finding}\n")
        return 1
    print(f"{count.messages} messages, {count.memory_bytes >> 20} MiB after the first {WARM_UP}: {count.codes}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
