"""Files of a version that its steps read: where they may lie, how large they may be, and what they hold."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.model_folders import publish_with_vocabulary
from triptych.contract import Contract, ContractError, Plan, StepFile, load_step_files
from triptych.contract.reading import step_files
from triptych.contract.reading.step_files import read_step_files
from triptych.contract.steps.step_file import MAX_STEP_FILES, SUFFIXES, words_of
from triptych.contract.verification.repository import validate_repository
from triptych.contract.verification.trial import trial
from triptych.contract.verification.version import ValidationOptions
from triptych.errors import ContractViolation, InvalidInput

CITIES = b"Bonn\nUlm\nK\xc3\xb6ln\n"
DOCUMENT: dict[str, Any] = {
    "apiVersion": "triptych.dev/v1",
    "kind": "Contract",
    "family": "churn",
    "max_rows": 4,
    "inputs": [{"name": "city", "datatype": "BYTES", "shape": [-1]}],
    "preprocess": [{"op": "ordinal", "input": "city", "file": "cities.txt"}],
    "model": {
        "inputs": [{"name": "city", "datatype": "INT64", "shape": [-1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
    },
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
}


def contract(*paths: str) -> Contract:
    """A contract with a step for each path."""
    document = copy.deepcopy(DOCUMENT)
    if paths:
        steps = [{"op": "ordinal", "input": "city", "output": f"code{i}", "file": path} for i, path in enumerate(paths)]
        document["preprocess"] = [*steps, {"op": "rename", "input": "code0", "output": "city"}]
    return Contract.model_validate_json(json.dumps(document))


def cities(*words: bytes) -> Any:
    array = np.empty(len(words), np.object_)
    array[:] = words
    return array


def test_a_vocabulary_gives_the_codes_that_the_same_list_gives() -> None:
    plan = Plan(contract(), {"cities.txt": StepFile.of(CITIES)})
    codes = plan.preprocess({"city": cities("Köln".encode(), b"Bonn")})["city"]
    assert (codes.dtype, codes.tolist()) == (np.dtype(np.int64), [2, 0])
    with pytest.raises(InvalidInput, match=r"want one of Bonn, Ulm, Köln, got row 1: 'Rom'"):
        plan.preprocess({"city": cities(b"Ulm", b"Rom")})


def test_the_files_of_a_contract_have_limits_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight lists of a million words took 2 GiB."""
    for name, content in (("a.txt", b"a\n" * 50), ("b.txt", b"b\n" * 50), ("c.json", b'{"a":\n' + b"\n" * 20 + b"1}")):
        (tmp_path / name).write_bytes(content)
    three = contract("a.txt", "b.txt", "c.json")
    monkeypatch.setattr(step_files, "MAX_WORDS", 100)
    assert [set(read_step_files(three, tmp_path)[0]), read_step_files(three, tmp_path)[1]] == [
        {"a.txt", "b.txt", "c.json"},
        [],
    ]
    (problem,) = read_step_files(three, tmp_path, most=199)[1]
    assert problem.text == "b.txt makes the files of the steps larger than 199 bytes together"
    monkeypatch.setattr(step_files, "MAX_WORDS", 99)
    (problem,) = read_step_files(three, tmp_path)[1]
    assert problem.text == "b.txt makes the files of the steps larger than 99 words together"


@given(st.lists(st.text("aß√ \t\x85\u2028\ufeff", min_size=1), min_size=1))
def test_the_words_of_a_vocabulary_are_its_lines_whatever_the_line_ends(words: list[str]) -> None:
    if words[0].startswith("\ufeff"):  # a byte-order mark is none of the text
        words[0] = f"x{words[0]}"
    for end in ("\n", "\r\n"):
        for last in ("", end):
            assert words_of("v.txt", StepFile.of((end.join(words) + last).encode())) == tuple(words)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "v.txt: holds no word; want one a line"),
        (b"Bonn\nK\xf6ln", "v.txt: not UTF-8: byte 0xf6 at 6"),
    ],
)
def test_what_is_no_vocabulary_is_named(content: bytes, text: str) -> None:
    with pytest.raises(ContractViolation, match=text):
        words_of("v.txt", StepFile.of(content))


def test_a_list_of_json_is_no_vocabulary() -> None:
    with pytest.raises(ContractViolation, match="v.json: want one word a line, got JSON"):
        words_of("v.json", StepFile.of(b'["Bonn", "Ulm"]'))
    assert words_of("v.json", StepFile.of(b"Bonn\nUlm\n")) == ("Bonn", "Ulm")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"Bonn\nUlm\nBonn\n", "cities.txt: holds 'Bonn' twice"),
        (
            b"\n".join(b"%d" % i for i in range(300)),
            "cities.txt: datatype: UINT8 does not hold the codes up to 299",
        ),
    ],
)
def test_a_vocabulary_that_the_step_cannot_use_fails_the_trial(content: bytes, text: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["preprocess"][0]["datatype"] = "UINT8"
    document["model"]["inputs"][0]["datatype"] = "UINT8"
    given = Contract.model_validate_json(json.dumps(document))
    assert [problem.text for problem in trial(given, files={"cities.txt": StepFile.of(content)})] == [text]


def test_a_file_of_postprocess_is_tried_although_made_up_rows_are_refused_before() -> None:
    document = copy.deepcopy(DOCUMENT)  # the made-up city is in no list
    document["postprocess"] = [{"op": "ordinal", "input": "city", "output": "code", "file": "codes.txt"}]
    given = Contract.model_validate_json(json.dumps(document))
    files = {"cities.txt": StepFile.of(CITIES), "codes.txt": StepFile.of(b"\xff")}
    assert [problem.location for problem in trial(given, files=files)] == [("postprocess", 0)]


def test_a_plan_without_the_file_says_so() -> None:
    with pytest.raises(ContractViolation, match=r"the file cities.txt is not here; want it beside the contract"):
        Plan(contract())


def test_the_steps_of_another_stage_need_no_file() -> None:
    assert Plan(contract(), stages=("postprocess",)).postprocess({"y": np.ones(2, np.float32)})["y"].tolist() == [1, 1]
    assert contract().step_files(("postprocess",)) == {}
    assert contract().step_files() == {"cities.txt": ("preprocess", 0, "file")}


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd.txt", "../2/cities.txt", "a/../cities.txt", "./cities.txt", "a//b.txt", ".hidden.txt", "a/.b/c.json",
     "a\\b.txt", "cities.csv", "model.onnx", "cities.txt\n", "", "ü.txt", f"{'a' * 200}.txt"],
)  # fmt: skip
def test_a_path_out_of_the_folder_or_of_another_kind_is_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        contract(path)


@given(st.from_regex(r"[a-z./_-]{1,12}\.(txt|json)", fullmatch=True))
def test_a_path_that_is_accepted_stays_below_its_folder(path: str) -> None:
    try:
        accepted = contract(path)
    except ValidationError:
        return
    (found,) = accepted.step_files()
    assert os.path.normpath(found) == found
    assert not found.startswith(("/", "."))
    assert found.endswith(SUFFIXES)


def test_a_contract_reads_few_files() -> None:
    contract(*(f"{i}.txt" for i in range(MAX_STEP_FILES)))
    with pytest.raises(ValidationError, match="want at most 8 files of the version in all steps"):
        contract(*(f"{i}.txt" for i in range(MAX_STEP_FILES + 1)))


def test_files_are_read_with_their_digests(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.txt").write_bytes(CITIES)
    files = load_step_files(contract("a/b.txt"), tmp_path)
    assert files["a/b.txt"].content == CITIES
    assert files["a/b.txt"].digest == f"sha256:{hashlib.sha256(CITIES).hexdigest()}"


def test_only_regular_files_within_the_folder_and_the_limit_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "1"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "out.txt").symlink_to("../secret.txt")
    (folder / "device.txt").symlink_to("/dev/zero")
    (folder / "folder.txt").mkdir()
    os.mkfifo(folder / "fifo.txt")
    (folder / "large.txt").write_bytes(b"x" * 11)
    (folder / "most.txt").write_bytes(b"x" * 10)
    (folder / "empty.txt").write_bytes(b"")
    (folder / "in.txt").symlink_to("empty.txt")
    names = ("out", "device", "folder", "fifo", "large", "most", "in", "none")
    files, problems = read_step_files(contract(*(f"{name}.txt" for name in names)), folder, most=10)
    assert sorted(files) == ["in.txt", "most.txt"]
    assert {problem.text for problem in problems} == {
        "out.txt is a link out of its folder; want a file within it",
        "device.txt is a device; want a regular file",
        "folder.txt is a folder; want a regular file",
        "fifo.txt is a FIFO; want a regular file",
        "large.txt larger than 10 bytes",
        "none.txt cannot be read: No such file or directory",
    }
    with pytest.raises(ContractError, match=r"none.txt cannot be read"):
        load_step_files(contract("none.txt"), folder)


def test_verify_names_the_line_of_a_file_that_is_missing_or_too_large(tmp_path: Path) -> None:
    folder = publish_with_vocabulary(tmp_path, "sales_de", CITIES)
    path = folder / "contract.yaml"
    (folder / "cities.txt").unlink()
    line = path.read_text()[: path.read_text().index("- {op")].count("\n") + 1
    (problem,) = validate_repository(tmp_path).problems
    assert problem == f"{path}:{line}: preprocess[0].file: cities.txt cannot be read: No such file or directory"
    (folder / "cities.txt").write_bytes(CITIES)
    assert validate_repository(tmp_path).problems == []
    (problem,) = validate_repository(tmp_path, ValidationOptions(max_step_file_bytes=5)).problems
    assert problem.endswith("preprocess[0].file: cities.txt larger than 5 bytes")
