"""Conformance of each server to HTTP/2 (RFC 9113, RFC 7541), by the public suite h2spec."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from local.programs.clients import find_client
from tests.fakes.scripted.process import ScriptedStage, scripted
from triptych.server import SERVERS

CASES = 145
TIMEOUT_S = 900
NO_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
RUNS = 3  # cases race with an answer that comes early, or with the end of the connection: each has to pass once
SILENCE_S = 5  # after which h2spec takes a server for silent

IGNORED = "frames of a stream that is over are ignored: no state is kept by which to distinguish wrong ones"
PRIORITIES = "priorities of RFC 7540 are ignored: RFC 9113, 5.3.2 withdrew them"
RACE = "the first are answered before the limit is reached"
EARLY = "what is no gRPC is answered by its headers alone, perhaps before the wrong frame comes"
OVER_THE_LIMIT = "http2/5.1.2: Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded"
STRICTER = "the connection is closed, as RFC 9113, 5.4 allows for an error of a stream"

# Cases that may fail, with the reason.
MAY_FAIL: dict[str, dict[str, str]] = {
    "http2": {
        "http2/5.1: closed: Sends a DATA frame after sending RST_STREAM frame": IGNORED,
        "http2/5.1: closed: Sends a HEADERS frame after sending RST_STREAM frame": IGNORED,
        "http2/5.1: closed: Sends a DATA frame": IGNORED,
        "http2/5.1: closed: Sends a HEADERS frame": IGNORED,
        OVER_THE_LIMIT: RACE,
        "http2/5.1: half closed (remote): Sends a DATA frame": EARLY,
        "http2/5.1: half closed (remote): Sends a HEADERS frame": EARLY,
        'http2/8.1.2.6: Sends a HEADERS frame with the "content-length" header field which does not equal the DATA '
        "frame payload length": EARLY,
        "http2/5.1.1: Sends stream identifier that is numerically smaller than previous": IGNORED,
        "http2/5.3.1: Sends PRIORITY frame that depend on itself": PRIORITIES,
        "http2/6.3: Sends a PRIORITY frame with 0x0 stream identifier": PRIORITIES,
        "http2/6.9.1: Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a "
        "stream": STRICTER,
    },
}
OF_GRPC = "h2spec calls with GET and no content-type, which the C core resets: 88 of 145 cases fail (2026-11-29)"


@pytest.fixture(params=sorted(SERVERS))
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedStage]:
    if request.param == "grpcio":
        pytest.xfail(OF_GRPC)
    with scripted(request.param, tmp_path_factory.mktemp("stage"), connection_age_s=0) as running:
        yield running


def results(report: Path) -> dict[str, str]:
    """Results by case "section/number: description": empty if passed, else "skipped" or the difference."""
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
@pytest.mark.timeout(RUNS * TIMEOUT_S + 60)
def test_h2spec_passes(stage: ScriptedStage, tmp_path: Path) -> None:
    command = find_client("h2spec")
    if command is None:
        pytest.skip("make conformance builds h2spec and the interop clients, where their toolchains are")
    host, _, port = stage.part.address.rpartition(":")
    failed: dict[str, str] = {}
    for number in range(RUNS):
        report = tmp_path / f"report-{number}.xml"
        options = ["-h", host, "-p", port, "-o", str(SILENCE_S), "-j", str(report)]
        subprocess.run([*command, *options], capture_output=True, timeout=TIMEOUT_S)
        found = results(report)
        assert len(found) >= CASES
        faults = {name: fault for name, fault in found.items() if fault and fault != "skipped"}
        failed = {name: fault for name, fault in faults.items() if (not number or name in failed)}
        failed = {name: fault for name, fault in failed.items() if name not in MAY_FAIL[stage.server]}
        if not failed:
            break
    assert failed == {}
    stage.infer()
