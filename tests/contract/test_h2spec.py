"""h2spec, the public conformance suite of HTTP/2 (RFC 9113, RFC 7541), against each server."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from local.clients import find_client
from tests.contract.scripted.process import ScriptedStage, scripted
from triptych.door import DOORS

CASES = 145
TIMEOUT_S = 900
NO_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]|&#(?:x[0-9A-Fa-f]+|\d+);")
SILENCE_S = 5  # after which h2spec takes a server for silent

# What fails, with the reason. A case that begins to pass has to leave this list.
FAILING: dict[str, dict[str, str]] = {"envoy": {}, "grpcio": {}}


@pytest.fixture(scope="module", params=sorted(DOORS))
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedStage]:
    with scripted(request.param, tmp_path_factory.mktemp("stage"), connection_age_s=0) as running:
        yield running


def results(report: Path) -> dict[str, str]:
    """By case "section/number: description": empty for passed, else "skipped" or what came in place of what."""
    found: dict[str, str] = {}
    text = NO_XML.sub("?", report.read_text(errors="replace"))  # h2spec writes the bytes of frames as they are
    for case in ElementTree.fromstring(text).iter("testcase"):
        name = f"{case.get('package')}: {case.get('classname')}"
        fault = case.find("failure")
        if fault is None:
            fault = case.find("error")
        found[name] = "skipped" if case.find("skipped") is not None else ""
        if fault is not None:
            found[name] = " ".join("".join(fault.itertext()).split())
    return found


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S + 60)
def test_h2spec_passes(stage: ScriptedStage, tmp_path: Path) -> None:
    command = find_client("h2spec")
    if command is None:
        pytest.skip("make conformance builds h2spec and the interop clients, where their toolchains are")
    host, _, port = stage.part.address.rpartition(":")
    report = tmp_path / "report.xml"
    options = ["-h", host, "-p", port, "-o", str(SILENCE_S), "-j", str(report)]
    subprocess.run([*command, *options], capture_output=True, timeout=TIMEOUT_S)
    found = results(report)
    assert len(found) >= CASES
    failed = {name: fault for name, fault in found.items() if fault and fault != "skipped"}
    assert failed.keys() == FAILING[stage.door].keys(), failed
    stage.infer()
