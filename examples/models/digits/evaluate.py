"""Accuracy through a running stack: held-out handwriting is drawn, sent over gRPC and answered in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from examples.models.digits.handwriting import read_held_out
from examples.models.digits.pictures import Question, held_out_questions, request_inputs
from examples.models.labels import DIGIT_WORDS, versions

REQUIRED: Final = 0.96
_ROWS: Final = 8  # of a request
_TIMEOUT_S: Final = 60.0


class Score(NamedTuple):
    """The number of right answers."""

    right: int
    asked: int

    @property
    def share(self) -> float:
        return self.right / self.asked if self.asked else 0.0

    def plus(self, other: Score) -> Score:
        return Score(self.right + other.right, self.asked + other.asked)


def evaluate(address: str, pictures: int) -> int:
    """Print the accuracy of each model version. Returns 1 if one of them is below the requirement."""
    samples, totals = read_held_out(), []
    client = triton.InferenceServerClient(address)
    try:
        for code in DIGIT_WORDS:
            questions = held_out_questions(samples, code, pictures)
            for version in versions(code):
                totals.append(_version(client, code, version, questions))
    except InferenceServerException as error:
        print(f"{address}: {error.status() or 'no answer'}: {error.message()}")
        return 1
    finally:
        client.close()
    total = Score(sum(score.right for score in totals), sum(score.asked for score in totals))
    print(f"{'all':20} {total.share:.4f}   {total.right} of {total.asked}; required: {REQUIRED} for each")
    return 0 if all(score.share >= REQUIRED for score in (total, *totals)) else 1


def _version(client: triton.InferenceServerClient, code: str, version: int, questions: Sequence[Question]) -> Score:
    """Send all pictures to one version, and print its line."""
    whole = _ask_all(client, code, version, [q for q in questions if q.box is None])
    boxed = _ask_all(client, code, version, [q for q in questions if q.box is not None])
    both = whole.plus(boxed)
    name = f"digits_{code.lower()} version {version}"
    parts = f"whole pictures {whole.share:.4f}, with box {boxed.share:.4f}"
    print(f"{name:20} {both.share:.4f}   {both.right} of {both.asked}; {parts}", flush=True)
    return both


def _ask_all(client: triton.InferenceServerClient, code: str, version: int, questions: Sequence[Question]) -> Score:
    right = 0
    for some in _requests(questions):
        words = _ask(client, f"digits_{code.lower()}", str(version), some)
        right += sum(word == DIGIT_WORDS[code][q.digit] for word, q in zip(words, some, strict=True))
    return Score(right, len(questions))


def _requests(questions: Sequence[Question]) -> Iterator[Sequence[Question]]:
    for start in range(0, len(questions), _ROWS):
        yield questions[start : start + _ROWS]


def _ask(client: triton.InferenceServerClient, model: str, version: str, questions: Sequence[Question]) -> list[str]:
    """The most probable word for each picture of one request; all pictures have a box, or none."""
    tensors = []
    for name, array in request_inputs(questions).items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensors.append(tensor.set_data_from_numpy(array))
    answer = client.infer(model, tensors, version, parameters={"top_k": 1}, client_timeout=_TIMEOUT_S)
    if (came := answer.get_response().model_version) != version:
        raise InferenceServerException(f"{model}: asked version {version}, version {came} answered")
    return [label.decode("utf-8") for label in answer.as_numpy("label")[:, 0]]
