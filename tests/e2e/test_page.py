"""The page of the controller on a cluster: it is reached by port-forward alone, and its form is answered."""

from __future__ import annotations

import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import unescape

import pytest

from tests.e2e.canaries import small
from tests.e2e.release import Release
from tests.multipart import FORM, form_body

FIELD = r'<textarea name="(\w+)" rows="\d">([^<]*)</textarea>'


@contextmanager
def forwarded(release: Release, target: str, port: int) -> Iterator[str]:
    """The URL of a port-forward to a port of `target`, for as long as the block runs."""
    kubectl = release.kubectl
    command = ["kubectl", f"--kubeconfig={kubectl.kubeconfig}", f"--namespace={kubectl.namespace}"]
    command += ["port-forward", target, f":{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            assert found, line
            yield f"http://localhost:{found[1]}"
        finally:
            process.terminate()


def page(url: str, form: dict[str, str] | None = None) -> str:
    """The page, or the answer to a form."""
    data, headers = (None, {}) if form is None else (form_body(form), FORM)
    request = urllib.request.Request(url, data, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        text: str = answer.read().decode()
        return text


def test_the_page_is_reached_by_port_forward_and_tries_a_model(new_release: Callable[[str, str], Release]) -> None:
    release = new_release("page", "Standard")
    release.apply(small(controller={"page": True}, networkPolicy={"enabled": True}))
    release.wait_until_settled("preprocess")
    release.wait_until_settled("controller")
    with forwarded(release, "deployment/controller", 9202) as url:
        assert '<a href="/models/sales_forecast_de">' in page(f"{url}/")
        tried = f"{url}/models/sales_forecast_de/versions/1"
        form = {name: unescape(value) for name, value in re.findall(FIELD, page(tried))}
        answer = page(tried, form)
    assert 'id="answer"' in answer, answer
    assert "<td>postprocess</td>" in answer
    (pod,) = release.pods("controller")
    with pytest.raises((urllib.error.URLError, OSError)):
        page(f"http://{pod['status']['podIP']}:9202/")
