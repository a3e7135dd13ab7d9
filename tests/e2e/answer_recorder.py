"""Recording of the answers to a constant load: revisions, model version and labels of each."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from types import TracebackType
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from tests.e2e.kubectl import wait_for
from tests.e2e.release import Endpoint
from tests.integration.conftest import INFER
from tests.integration.messages import outputs_of

DEADLINE_S = 15.0
CHANNELS = 4


@dataclass(frozen=True)
class Answer:
    """Revisions of preprocess and postprocess, model version, and labels of one answer."""

    preprocess: str
    postprocess: str
    version: int
    labels: tuple[bytes, ...]

    @classmethod
    def of(cls, response: pb.ModelInferResponse) -> Answer:
        preprocess, postprocess = (
            response.parameters[f"triptych_{stage}_revision"].string_param for stage in ("preprocess", "postprocess")
        )
        return cls(preprocess, postprocess, int(response.model_version), tuple(outputs_of(response)["label"][0]))

    @property
    def lane(self) -> tuple[str, str, int]:
        return self.preprocess, self.postprocess, self.version


@dataclass(frozen=True)
class LostCall:
    """A failed call: send time, phase of the test, duration, and gRPC's status and details."""

    sent_s: float  # since the start of the recorder
    phase: str
    took_s: float
    code: str
    details: str
    debug: str  # gRPC's debug string, with HTTP status and peer

    def __str__(self) -> str:
        when = f"at {self.sent_s:.2f} s, {self.phase}"
        return f"{when}: {self.code} after {self.took_s:.2f} s: {self.details} [{self.debug}]"


class AnswerRecorder:
    """Sends one request at a constant rate during the block, and records every answer and failure in order."""

    def __init__(self, server: Endpoint, request: pb.ModelInferRequest, per_second: float = 80) -> None:
        self.answers: list[Answer] = []
        self.lost: list[LostCall] = []
        self.phase = "nothing"
        self._request, self._pause_s = request.SerializeToString(), 1 / per_second
        self._channels = [server.channel() for _ in range(CHANNELS)]
        self._stop, self._sent, self._began_s = threading.Event(), 0, time.monotonic()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> AnswerRecorder:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        wait_for(lambda: self._ended() == self._sent, "every request has ended", 2 * DEADLINE_S)
        for channel in self._channels:
            channel.close()

    def next(self, count: int) -> Sequence[Answer]:
        """Wait for the next `count` answers and return them."""
        first = len(self.answers)
        wait_for(lambda: len(self.answers) >= first + count, f"{count} more answers, lost {self.losses}", 200)
        return self.answers[first : first + count]

    def until_all(self, lane: tuple[str, str, int], in_a_row: int = 200) -> None:
        """Wait until `in_a_row` consecutive answers come from one lane."""

        def settled() -> bool:
            last = self.answers[-in_a_row:]
            return len(last) == in_a_row and all(each.lane == lane for each in last)

        wait_for(settled, f"{lane} answers all, lost {self.losses}", 120)

    def until_some(self, lane: tuple[str, str, int]) -> None:
        """Wait for the next answer of a lane."""
        first = len(self.answers)
        wait_for(lambda: any(each.lane == lane for each in self.answers[first:]), f"{lane} answers", 120)

    @property
    def losses(self) -> Counter[tuple[str, str, str]]:
        """Number of failed calls by phase, code and details."""
        return Counter((each.phase, each.code, each.details) for each in self.lost)

    @property
    def lanes(self) -> Counter[tuple[str, str, int]]:
        return lanes_of(self.answers)

    def assert_none_lost_or_mixed(self, lanes: Iterable[tuple[str, str, int]], right: Mapping[int, object]) -> None:
        """Assert that every request was answered by one of the lanes, with the labels of the version it names."""
        each = "\n".join(map(str, self.lost[:50]))
        assert not self.lost, f"lost {len(self.lost)} of {self._sent}: {self.losses}\n{each}"
        assert self.lanes.keys() <= set(lanes), self.lanes
        wrong = [each for each in self.answers if each.labels != right[each.version]]
        assert not wrong, wrong[:3]
        assert len(self.answers) == self._sent

    def _ended(self) -> int:
        return len(self.answers) + len(self.lost)

    def _send(self) -> None:
        calls = itertools.cycle([channel.unary_unary(INFER) for channel in self._channels])
        due_s = time.monotonic()
        while not self._stop.is_set():
            self._sent += 1
            future = next(calls).future(self._request, timeout=DEADLINE_S)
            future.add_done_callback(partial(self._came, self.phase, time.monotonic()))
            due_s += self._pause_s
            self._stop.wait(max(0.0, due_s - time.monotonic()))

    def _came(self, phase: str, sent_s: float, future: Any) -> None:
        if error := future.exception():
            took_s, said = time.monotonic() - sent_s, error.debug_error_string()[:400]
            since_s = sent_s - self._began_s
            self.lost.append(LostCall(since_s, phase, took_s, error.code().name, error.details(), said))
        else:
            self.answers.append(Answer.of(pb.ModelInferResponse.FromString(future.result())))


def lanes_of(answers: Iterable[Answer]) -> Counter[tuple[str, str, int]]:
    return Counter(each.lane for each in answers)


def likely(count: int, total: int, percent: float, confidence: float = 0.999) -> bool:
    """Whether the count is within the central `confidence` interval of a binomial share of `percent`."""
    share = percent / 100
    deviation = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(total * share * (1 - share))
    return abs(count - total * share) <= deviation + 0.5
