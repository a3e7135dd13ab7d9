"""Namespaces of any length in KServe's modes: refused at once, or pods come up."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.e2e.release import NAME, STAGES, Release
from tools.chart import program

LONGEST = 41  # for `postprocess-predictor-NAMESPACE`, in a host label of 63 characters
AROUND = len("e2e--123456")


@pytest.mark.timeout(300)
def test_a_longer_namespace_is_refused_before_anything_is_made(new_release: Callable[[str, str], Release]) -> None:
    release = new_release("n" * (47 - AROUND), "Standard")
    assert len(release.kubectl.namespace) == 47
    given = json.dumps(release.values())
    done = release.helm("install", NAME, str(program.CHART), "--values=-", given=given, check=False)
    assert done.returncode
    assert f"the label postprocess-predictor-{release.kubectl.namespace}, which has 69 characters" in done.stderr
    assert release.objects() == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_in_the_longest_namespace_kserve_starts_every_stage(new_release: Callable[[str, str], Release]) -> None:
    release = new_release("n" * (LONGEST - AROUND), "Standard")
    assert len(release.kubectl.namespace) == LONGEST
    release.apply()
    for stage in STAGES:
        release.wait_until_settled(stage)
    release.helm_test()
