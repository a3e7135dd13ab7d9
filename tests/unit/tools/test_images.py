"""The commands that tools/images.sh gives to a builder."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from local.environments import ROOT
from tests.e2e.images import sources

FILES = {
    "preprocess": "services/preprocess/Dockerfile",
    "postprocess": "services/postprocess/Dockerfile",
    "controller": "services/controller/Dockerfile",
    "jobs": "services/jobs/Dockerfile",
    "triton-cpu": "services/predictor/Dockerfile",
    "models": "examples/models/Dockerfile",
    "backend": "examples/backend/Dockerfile",
}


def commands(**variables: str) -> list[str]:
    """The arguments of each call of the builder."""
    kept = {name: value for name, value in os.environ.items() if name not in ("BASE", "PLATFORM", "TAG", "BUILD")}
    environment = kept | {"BUILD": "echo docker build", "TAG": "7"} | variables
    script = [str(ROOT / "tools/images.sh")]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[1::2]


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({}, ""),
        ({"PLATFORM": "linux/arm64"}, "--platform linux/arm64 "),
        (
            {"BASE": "mirror/python", "PLATFORM": "linux/arm64"},
            "--build-arg BASE=mirror/python --platform linux/arm64 ",
        ),
    ],
    ids=str,
)
def test_every_image_is_built_with_the_options_before_the_context(variables: dict[str, str], options: str) -> None:
    assert commands(**variables) == [
        f"docker build -t triptych/{name}:7 -f {file} {options}." for name, file in FILES.items()
    ]


@pytest.mark.parametrize(("base", "options"), [("", ""), ("other", " -- --build-arg BASE=other")])
def test_the_development_cluster_gets_options_behind_the_context(base: str, options: str) -> None:
    first, *_ = commands(BUILD="echo tools/cluster.sh build", BASE=base)
    assert first == f"tools/cluster.sh build -t triptych/preprocess:7 -f {FILES['preprocess']} .{options}"


@pytest.mark.parametrize("file", FILES.values())
def test_the_tag_of_the_e2e_images_depends_on_all_that_a_dockerfile_copies(file: str) -> None:
    """It left out the folder of the command, so that the cluster ran an old `triptych wait`."""
    text = (ROOT / file).read_text()
    copied = [word for words in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE) for word in words.split()]
    paths = {ROOT / word for word in copied if not word.startswith("--")} | {ROOT / file}
    counted = set(sources())
    assert {path for path in paths if not counted & {path, *path.rglob("*")}} == set()
