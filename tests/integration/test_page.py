"""The page of the controller beside the real chain: what it shows, what its form sends, and whom it refuses."""

from __future__ import annotations

import http.client
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from html import unescape
from pathlib import Path
from urllib.parse import quote

import pytest

from local.endpoints import free_endpoints
from local.environments import ROOT
from local.prerequisites import BROWSERS
from local.programs.found import find_program
from local.programs.go_programs import GRPCURL
from local.stack import LocalStack
from tests.multipart import FORM, form_body

EIGHT = ROOT / "examples/data/eight_board.png"
HOSTILE = "<img src=x>"
MAX_BYTES = 3 << 20


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, predictor_python: Path) -> Iterator[str]:
    """host:port of the page of a stack with two models, and one that is not served."""
    folder, endpoints = tmp_path_factory.mktemp("page"), free_endpoints()
    for name in ("digits_de", "sales_forecast_de"):
        shutil.copytree(ROOT / "model-repository" / name, folder / "models" / name)
    (folder / "models" / HOSTILE / "1").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    variables = {
        "CONTROLLER_PAGE_PORT": str(port),
        "CONTROLLER_PAGE_PREPROCESS": endpoints["preprocess"].address,
        "CONTROLLER_PAGE_MAX_BYTES": str(MAX_BYTES),
    }
    stack = LocalStack(
        endpoints, folder / "run", predictor_python, folder / "models", served_models=None, variables=variables
    )
    with stack:
        yield f"127.0.0.1:{port}"


class Answer:
    """Status, headers and text of one response."""

    def __init__(
        self, page: str, path: str, method: str = "GET", body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        connection = http.client.HTTPConnection(page, timeout=60)
        connection.request(method, path, body or None, dict(headers or {}))
        response = connection.getresponse()
        self.status, self.headers, self.text = response.status, response.headers, response.read().decode()
        connection.close()


def sent(page: str, path: str, parts: Mapping[str, str | Path], headers: Mapping[str, str] | None = None) -> Answer:
    """The answer to a form of texts and files, as a browser encodes it."""
    return Answer(page, path, "POST", form_body(parts), FORM | dict(headers or {}))


def error_of(answer: Answer) -> str:
    found = re.search(r'<p class="bad" id="error">(.*?)</p>', answer.text)
    assert found, answer.text
    return unescape(found[1])


def test_it_shows_models_predictors_and_what_is_not_served(page: str) -> None:
    shown = Answer(page, "/")
    assert shown.status == 200
    assert '<a href="/models/digits_de">digits_de</a>' in shown.text
    assert '<a href="/models/digits_de/versions/1">1</a> (100 %)' in shown.text
    assert f'<a href="/models/{quote(HOSTILE)}">&lt;img src=x&gt;</a>' in shown.text
    assert HOSTILE not in shown.text
    assert "digits_de" not in Answer(page, "/?search=sales").text


def test_a_model_page_says_why_it_is_not_served(page: str) -> None:
    shown = Answer(page, f"/models/{quote(HOSTILE)}")
    assert (shown.status, "Not served" in shown.text, HOSTILE in shown.text) == (200, True, False)
    assert Answer(page, "/models/nothing").status == 404
    assert Answer(page, "/models/digits_de/versions/9").status == 404


def test_a_picture_is_answered_with_every_step(page: str) -> None:
    shown = sent(page, "/models/digits_de/versions/1", {"image": EIGHT, "top_k": "2"})
    assert shown.status == 200
    assert "<tr><th>label</th><td><code>[&#39;acht&#39;, &#39;zwei&#39;]</code></td></tr>" in shown.text
    steps = re.findall(r"<tr><td>(\w+)</td><td>([^<]*)</td>", shown.text)
    assert [part for part, _ in dict.fromkeys(steps)][0] == "request"
    assert [part for part, _ in steps][-1] == "answer"
    assert {"0 decode_image", "0 softmax", "2 label"} <= {step for _, step in steps}
    assert shown.text.count('src="data:image/png;base64,') >= 3


def test_the_form_of_a_table_is_filled_in_and_answered(page: str) -> None:
    form = Answer(page, "/models/sales_forecast_de/versions/1")
    fields = re.findall(r'<textarea name="(\w+)" rows="\d">([^<]*)</textarea>', form.text)
    assert fields
    shown = sent(page, "/models/sales_forecast_de/versions/1", {name: unescape(text) for name, text in fields})
    assert (shown.status, 'id="answer"' in shown.text) == (200, True)


@pytest.mark.parametrize("kind", ["Python", "grpcurl"])
def test_the_call_that_is_shown_gives_the_same_answer(page: str, tmp_path: Path, kind: str) -> None:
    shown = sent(page, "/models/digits_de/versions/1", {"image": EIGHT, "top_k": "2"})
    found = re.search(rf"<h3>{kind}</h3>\n<pre>(.*?)</pre>", shown.text, re.DOTALL)
    assert found
    shutil.copy(EIGHT, tmp_path / "image_0")
    call = unescape(found[1])
    if kind == "Python":
        command = [sys.executable, "-c", call]
        wanted = "b'acht' b'zwei'"
    else:
        if (program := GRPCURL.find()) is None:
            pytest.skip("grpcurl is neither on PATH nor in the cache; `make test` builds it where there is Go")
        command, wanted = ["bash", "-c", call.replace("grpcurl", str(program), 1)], "BAAAAGFjaHQEAAAAendlaQ=="
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert wanted in done.stdout, done.stderr


def test_what_is_typed_wrongly_is_a_sentence_and_stays_in_the_form(page: str) -> None:
    answer = sent(page, "/models/digits_de/versions/1", {"image": EIGHT, "box": "[[1, 2", "top_k": "2"})
    assert answer.status == 400
    assert error_of(answer).startswith("'box': want JSON")
    assert 'name="box" rows="4">[[1, 2</textarea>' in answer.text
    answer = sent(page, "/models/digits_de/versions/1", {"image": "no picture"})
    assert (answer.status, "image" in error_of(answer)) == (200, True)
    assert "The steps end here" in answer.text


def test_other_names_other_sites_and_large_forms_are_refused(page: str) -> None:
    assert Answer(page, "/", headers={"Host": "evil.example"}).status == 400
    path, port = "/models/digits_de/versions/1", page.partition(":")[2]
    assert Answer(page, "/", headers={"Host": f"localhost:{port}"}).status == 200
    foreign = sent(page, path, {"image": EIGHT}, {"Origin": "http://evil.example"})
    assert (foreign.status, error_of(foreign)) == (403, "the form of another site")
    assert sent(page, path, {"image": EIGHT}, {"Origin": f"http://{page}"}).status == 200
    large = sent(page, path, {"image": "x" * MAX_BYTES})
    assert (large.status, "CONTROLLER_PAGE_MAX_BYTES" in error_of(large)) == (413, True)
    chunked = Answer(page, path, "POST", headers={"Transfer-Encoding": "chunked"}, body=b"0\r\n\r\n")
    assert (chunked.status, "want a form of at most" in error_of(chunked)) == (413, True)


def test_a_form_costs_little_whatever_is_in_it(page: str) -> None:
    """16 MiB of JSON held Python's lock for 0.4 s, and escapes of another encoding took 70 times their bytes."""
    path = "/models/digits_de/versions/1"
    text = sent(page, path, {"box": "[" + "1," * (1 << 19) + "1]"})
    assert (text.status, "maximum size" in error_of(text)) == (400, True)
    encoded = {"Content-Type": "application/x-www-form-urlencoded"}
    assert Answer(page, path, "POST", b"box=" + b"%41" * 1000, encoded).status == 415
    fields = sent(page, path, {f"box{number}": "" for number in range(101)})
    assert (fields.status, "Too many fields" in error_of(fields)) == (400, True)


@pytest.mark.parametrize("version", ["0", "01", "+1", "-1", "1.0", "9" * 5000, "%D9%A1", "1%00"])
def test_a_version_in_a_path_has_one_spelling(page: str, version: str) -> None:
    assert Answer(page, f"/models/digits_de/versions/{version}").status == 404


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    policy = Answer(page, "/").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; img-src data:; form-action 'self'")


def test_a_person_finds_a_model_and_tries_it_in_a_browser(page: str) -> None:
    program = next(filter(None, map(find_program, BROWSERS)), None)
    if program is None:
        pytest.skip("there is no Chromium; `make test` installs it where it runs as root")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        shown = browser.new_page()
        faults: list[str] = []
        shown.on("console", lambda message: faults.append(message.text))
        shown.on("pageerror", lambda error: faults.append(str(error)))
        shown.goto(f"http://{page}/")
        assert shown.locator("img").count() == 0
        shown.fill("input[name=search]", "digits")
        shown.click("button")
        shown.click("#models a >> text=digits_de")
        shown.click("text=try it")
        shown.set_input_files("input[name=image]", [EIGHT, EIGHT])
        shown.fill("input[name=top_k]", "1")
        shown.click("text=Send")
        assert shown.locator("#answer td").first.inner_text() == "['acht', 'acht']"
        picture = shown.locator("#steps img").first
        assert picture.evaluate("each => each.complete && each.naturalWidth > 100")
        assert shown.locator("header").evaluate("each => getComputedStyle(each).color") == "rgb(255, 255, 255)"
        browser.close()
    assert faults == []
