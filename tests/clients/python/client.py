"""An ordinary client of grpcio: the default settings, and round_robin over the addresses.

It calls until its standard input is closed, then prints what became of the calls as one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import queue
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
from grpc import aio

SERVICE = "/inference.GRPCInferenceService/"
OPTIONS = [("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}))]
DEADLINE_S = 30.0
MESSAGES = 3  # of a stream: each is sent after the answer to the one before


class Calls:
    """Outcomes of the calls."""

    def __init__(self) -> None:
        self.ok, self.lost, self.over = 0, Counter[str](), False

    def count(self, error: grpc.RpcError | None) -> None:
        if error is None:
            self.ok += 1
        else:
            self.lost[f"{error.code().name}: {error.details()}"] += 1


def blocking(given: argparse.Namespace, calls: Calls) -> None:
    """Threads and blocking calls, as most callers have them."""
    request = bytes.fromhex(given.request)
    channel = grpc.insecure_channel(f"ipv4:{given.addresses}", options=OPTIONS)
    infer: Any = channel.unary_unary(SERVICE + "ModelInfer")
    stream: Any = channel.stream_stream(SERVICE + "ModelStreamInfer")

    def unary() -> None:
        infer(request, timeout=DEADLINE_S)

    def exchange() -> None:
        sent: queue.Queue[bytes | None] = queue.Queue()
        answers: Iterator[bytes] = stream(iter(sent.get, None), timeout=DEADLINE_S)
        for _ in range(MESSAGES):
            sent.put(request)
            next(answers)
        sent.put(None)
        assert not list(answers)

    def call() -> None:
        while not calls.over:
            try:
                {"unary": unary, "stream": exchange}[given.mode]()
            except grpc.RpcError as error:
                calls.count(error)
            else:
                calls.count(None)

    threads = [threading.Thread(target=call) for _ in range(given.callers)]
    for thread in threads:
        thread.start()
    print("calling", flush=True)
    sys.stdin.read()
    calls.over = True
    for thread in threads:
        thread.join()


async def awaiting(given: argparse.Namespace, calls: Calls) -> None:
    """The same with grpc.aio."""
    request = bytes.fromhex(given.request)
    channel = aio.insecure_channel(f"ipv4:{given.addresses}", options=OPTIONS)
    infer: Any = channel.unary_unary(SERVICE + "ModelInfer")
    stream: Any = channel.stream_stream(SERVICE + "ModelStreamInfer")

    async def unary() -> None:
        await infer(request, timeout=DEADLINE_S)

    async def exchange() -> None:
        sent: asyncio.Queue[bytes | None] = asyncio.Queue()

        async def requests() -> AsyncIterator[bytes]:
            while (message := await sent.get()) is not None:
                yield message

        answers = aiter(stream(requests(), timeout=DEADLINE_S))
        for _ in range(MESSAGES):
            sent.put_nowait(request)
            await anext(answers)
        sent.put_nowait(None)
        assert [answer async for answer in answers] == []

    async def call() -> None:
        while not calls.over:
            try:
                await {"unary": unary, "stream": exchange}[given.mode]()
            except grpc.RpcError as error:
                calls.count(error)
            else:
                calls.count(None)

    tasks = [asyncio.create_task(call()) for _ in range(given.callers)]
    print("calling", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    calls.over = True
    await asyncio.gather(*tasks)
    await channel.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--addresses", help="host:port,host:port")
    parser.add_argument("--mode", choices=["unary", "stream"], default="unary")
    parser.add_argument("--request", help="an encoded ModelInferRequest, in hexadecimal")
    parser.add_argument("--callers", type=int, default=4, help="calls at once")
    parser.add_argument("--aio", action="store_true")
    given, calls = parser.parse_args(), Calls()
    if given.aio:
        asyncio.run(awaiting(given, calls))
    else:
        blocking(given, calls)
    print(json.dumps({"ok": calls.ok, "lost": calls.lost}))


if __name__ == "__main__":
    main()
