"""Closed loops in separate processes: each caller sends its next picture after the answer to the one before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import grpc
import numpy as np
import uvloop
from grpc import aio
from tritonclient.grpc import service_pb2 as pb

from local.errors import LocalError
from triptych.protocol.tensors import decode_response, encode_request

INFER = "/inference.GRPCInferenceService/ModelInfer"
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
DEADLINE_S = 110.0  # the first request to a cold model waits for its load
START_S = 2.0  # start time of a sending process


@dataclass(frozen=True)
class PictureTarget:
    """Target of a load. Callers take turns over the addresses; `whole` gives a picture's tensor a second dimension."""

    addresses: Sequence[str]
    model: str
    pictures: Sequence[bytes]
    whole: bool

    def messages(self) -> list[bytes]:
        """Serialised requests of one picture each."""
        shape = (1, 1) if self.whole else (1,)
        tensors = [np.array([picture], np.object_).reshape(shape) for picture in self.pictures]
        requests = [encode_request(pb.ModelInferRequest(model_name=self.model), {"image": each}) for each in tensors]
        return [request.SerializeToString() for request in requests]


@dataclass(frozen=True)
class Latencies:
    """Latencies of the answers between `begin` and `end`, in seconds on the clock of `time.time`."""

    begin: float
    end: float
    took_s: Sequence[float]

    @property
    def rate(self) -> float:
        return len(self.took_s) / (self.end - self.begin)

    def ms(self, percentile: float) -> float:
        return 1000 * float(np.percentile(self.took_s, percentile))


class LoadGenerator:
    """A pool of sending processes, among which the callers of a load are divided."""

    def __init__(self, processes: int) -> None:
        self._count = processes
        self._pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))

    def __enter__(self) -> LoadGenerator:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def closed(self, target: PictureTarget, callers: int, begin: float, end: float) -> Latencies:
        """Send until `end`, and until each process has an answer. Answers after `begin` count.

        Raises `LocalError` at the first refusal.
        """
        shares = [range(at, callers, self._count) for at in range(self._count)]
        running = [self._pool.submit(_send, target, share, begin, end) for share in shares if share]
        answers = [answer for one in running for answer in one.result()]
        return Latencies(begin, max(end, *(at for at, _ in answers)), [took for _, took in answers])


def once(address: str, target: PictureTarget) -> list[Any]:
    """Send each picture in sequence and return the answers. Raises `LocalError`."""
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        method: Any = channel.unary_unary(INFER)
        try:
            answers = [method(message, timeout=DEADLINE_S) for message in target.messages()]
        except grpc.RpcError as error:
            refused: Any = error
            raise LocalError(f"{target.model}: {refused.code().name}: {refused.details()}") from error
    return [decode_response(pb.ModelInferResponse.FromString(answer)) for answer in answers]


def _send(target: PictureTarget, callers: Sequence[int], begin: float, end: float) -> list[tuple[float, float]]:
    """Time and latency of each answer."""
    return uvloop.run(_sent(target, callers, begin, end))


async def _sent(target: PictureTarget, callers: Sequence[int], begin: float, end: float) -> list[tuple[float, float]]:
    messages = target.messages()
    answers: list[tuple[float, float]] = []
    channels = [aio.insecure_channel(address, options=OPTIONS) for address in target.addresses]

    async def caller(number: int) -> None:
        method: Any = channels[number % len(channels)].unary_unary(INFER)
        turn = number
        while (sent := time.time()) < end or not answers:
            await method(messages[turn % len(messages)], timeout=DEADLINE_S)
            turn += 1
            if begin <= (now := time.time()) and (now < end or not answers):
                answers.append((now, now - sent))

    try:
        await asyncio.gather(*(caller(number) for number in callers))
    except aio.AioRpcError as error:
        raise LocalError(f"{target.model}: {error.code().name}: {error.details()}") from None
    finally:
        for channel in channels:
            await channel.close()
    return answers
