"""Aliases of versions, by gRPC, REST, `triptych top` and the page, with a real Triton."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import grpc
import pytest
import tritonclient.grpc as triton

from local.endpoints import free_endpoints
from local.stack import LocalStack
from tests.integration.conftest import Caller, MakeStack
from tests.integration.load import Load, until
from tests.integration.messages import infer_request, noise_picture, objects, outputs_of
from tests.integration.test_top import top
from tests.model_folders import served_model

IMAGE = {"image": objects(noise_picture())}


class Named:
    """A stack with version 1 in traffic and version 2 dark, both with an alias, and an alias of no version."""

    def __init__(self, stack: LocalStack, documents: Path, rest: str, page: str) -> None:
        self.stack, self._documents, self.rest, self.page = stack, documents, rest, page
        self.caller = Caller(stack.address("preprocess"))

    def declare(self, aliases: str) -> None:
        text = served_model("digits_gb", {1: 100}, aliases=aliases)
        (self._documents / ".new").write_text(text)
        (self._documents / ".new").rename(self._documents / "digits-gb.yaml")

    def version(self, version: str = "", **parameters: Any) -> str:
        answer = self.caller.infer(infer_request("digits_gb", IMAGE, version=version, **parameters))
        return str(answer.model_version)

    def is_in_production(self, version: str) -> bool:
        return self.version(alias="production") == version

    def refused(self, version: str = "", **parameters: Any) -> str:
        """Code and sentence of the error, without the id of the request."""
        code, text = self.caller.refused(infer_request("digits_gb", IMAGE, version=version, **parameters))
        return f"{code.name}: {text.partition(' (request ')[0]}"


@pytest.fixture
def named(make_stack: MakeStack, copied_models: Callable[..., Path], tmp_path: Path) -> Named:
    rest, page, *_ = (endpoint.port for endpoint in free_endpoints().values())
    variables = {"PREPROCESS_REST_PORT": str(rest), "CONTROLLER_PAGE_PORT": str(page), "CONTROLLER_POLL_S": "0.2"}
    text = served_model("digits_gb", {1: 100}, aliases="production: 1, next: 2, gone: 9")
    documents = {"digits-gb.yaml": text}
    stack = make_stack(documents, model_repository=copied_models("digits_gb"), variables=variables)
    folder = stack.run_folder.parent / "served-models"
    return Named(stack, folder, f"http://127.0.0.1:{rest}", f"http://127.0.0.1:{page}")


def posted(url: str, parameters: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """Status and document of a request for one picture by REST."""
    picture = noise_picture()
    tensor = len(picture).to_bytes(4, "little") + picture
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(tensor)}}
    head = json.dumps({"parameters": parameters, "inputs": [image]}).encode()
    request = Request(url, head + tensor, {"Inference-Header-Content-Length": str(len(head))})
    try:
        with urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        with closing(error):
            return error.code, json.load(error)


def test_a_version_is_called_by_its_alias(named: Named) -> None:
    assert {named.version(id=str(number)) for number in range(10)} == {"1"}
    assert {named.version(alias="next", id=str(number), traffic_key="k") for number in range(10)} == {"2"}
    assert named.version(alias="production") == named.version("production") == "1"
    by_alias = named.caller.infer(infer_request("digits", IMAGE, route="GB", alias="next"))
    by_number = named.caller.infer(infer_request("digits_gb", IMAGE, version="2"))
    assert (by_alias.model_name, by_alias.model_version) == ("digits_gb", "2")
    assert outputs_of(by_alias) == outputs_of(by_number)
    unknown = "NOT_FOUND: model 'digits_gb' has no alias 'prod'; known: gone, next, production"
    assert named.refused(alias="prod") == unknown
    missing = "NOT_FOUND: alias 'gone' names version 9: model 'digits_gb' has no version '9'; known: 1, 2"
    assert named.refused(alias="gone") == named.refused("gone") == missing
    both = "INVALID_ARGUMENT: parameter 'alias': want an alias or a model_version, not both, got model_version '2' too"
    assert named.refused("2", alias="next") == both
    _by_tritons_client(named)
    _by_rest(named)
    _shown(named)


def _by_tritons_client(named: Named) -> None:
    """Calls that have no parameters take an alias as version."""
    with triton.InferenceServerClient(named.stack.address("preprocess")) as client:
        assert client.is_model_ready("digits_gb", "next")
        assert not client.is_model_ready("digits_gb", "gone")
        assert not client.is_model_ready("digits_gb", "prod")
        assert client.get_model_metadata("digits_gb", "next") == client.get_model_metadata("digits_gb", "2")
        assert client.get_model_config("digits_gb", "next") == client.get_model_config("digits_gb", "2")
        (entry,) = client.get_inference_statistics("digits_gb", "next").model_stats
        assert (entry.version, entry.inference_stats.success.count > 0) == ("2", True)


def _by_rest(named: Named) -> None:
    model = f"{named.rest}/v2/models/digits_gb"
    status, answer = posted(f"{model}/infer", {"alias": "next"})
    assert (status, answer["model_version"]) == (200, "2")
    status, answer = posted(f"{model}/versions/next/infer", {})
    assert (status, answer["model_version"]) == (200, "2")
    status, answer = posted(f"{model}/versions/2/infer", {"alias": "next"})
    assert (status, "not both" in answer["error"]) == (400, True)
    status, answer = posted(f"{model}/infer", {"alias": "prod"})
    assert (status, answer["error"].partition(";")[0]) == (404, "model 'digits_gb' has no alias 'prod'")
    with urlopen(f"{model}/versions/next/ready", timeout=30) as ready:
        assert ready.status == 200


def _shown(named: Named) -> None:
    """`triptych top`, the page and the log have the aliases."""
    shown = top(named.stack, "--once")
    assert "1 (production): 100 %, 2 (next)" in shown.stdout
    with urlopen(f"{named.page}/models/digits_gb", timeout=30) as answer:
        html = answer.read().decode()
    assert "<td>2</td><td>next</td>" in html
    assert "alias <code>gone</code> names version 9, which is not served" in html
    log = named.stack.log("controller").read_text()
    assert log.count("spec.aliases: gone: model 'digits_gb' has no valid version 9; it has 1, 2") == 1


def test_an_alias_that_moves_under_load_fails_nobody(named: Named) -> None:
    assert named.version(alias="next") == "2"
    with Load(named.caller, infer_request("digits_gb", IMAGE, alias="production"), callers=4) as load:
        for number in range(10):
            version = str(2 - number % 2)
            named.declare(f"production: {version}")
            until(partial(named.is_in_production, version))
    assert not load.refusals
    assert len({json.dumps(answer["class_id"]) for answer in load.answers}) == 2, "both versions answered"


def test_an_alias_of_a_version_that_is_refused_says_why(
    make_stack: MakeStack, copied_models: Callable[..., Path]
) -> None:
    models = copied_models("digits_gb")
    (models / "digits_gb/2/model.onnx").write_bytes((models / "digits_gb/1/model.onnx").read_bytes()[:-1000])
    text = served_model("digits_gb", {1: 100}, aliases="next: 2")
    stack = make_stack({"digits-gb.yaml": text}, model_repository=models)
    code, sentence = Caller(stack.address("preprocess")).refused(infer_request("digits_gb", IMAGE, alias="next"))
    assert code == grpc.StatusCode.NOT_FOUND
    assert sentence.startswith("alias 'next' names version 2: version 2 of model 'digits_gb' is not served: ")
