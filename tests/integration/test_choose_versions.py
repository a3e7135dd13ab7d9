"""Rows of a table get the version that requests with their keys get."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.integration.batch_runs import Batch
from tests.integration.conftest import Caller, MakeStack
from tests.integration.load import until
from tests.integration.messages import infer_request, noise_picture, objects
from tests.model_folders import served_model
from triptych_client import Ask, RefusedRow

PICTURE = noise_picture()
KEYS = [f"shop {number % 20}" for number in range(60)]


def version_of(caller: Caller, key: str) -> str:
    """The version that answers a request with a key."""
    request = infer_request("digits_gb", {"image": objects(PICTURE)}, traffic_key=key)
    return str(caller.infer(request).model_version)


def table(keys: list[str | None]) -> Any:
    return pa.table({"image": pa.array([PICTURE] * len(keys)), "shop": pa.array(keys, pa.string())})


@pytest.mark.timeout(300)
def test_rows_get_the_versions_of_their_keys(
    make_stack: MakeStack, copied_models: Callable[..., Path], tmp_path: Path
) -> None:
    documents = {"digits-gb.yaml": served_model("digits_gb", {1: 60, 2: 40})}
    address = make_stack(documents, model_repository=copied_models("digits_gb")).address("preprocess")
    caller = Caller(address)
    until(lambda: {version_of(caller, key) for key in KEYS[:20]} == {"1", "2"})  # once both are loaded
    online = {key: version_of(caller, key) for key in KEYS[:20]}

    route = {"route": "GB"}
    with Ask("digits", address=address, parameters=route, traffic_key="shop", keep="all", records=True) as ask:
        assert ask.version == ""
        answers = ask(table([*KEYS]))
    assert answers.column("shop").to_pylist() == KEYS
    assert [str(version) for version in answers.column("triptych_version").to_pylist()] == [online[key] for key in KEYS]
    assert len(set(answers.column("triptych_contract").to_pylist())) == 2

    keys = ["a", None, "b", ""]
    with Ask("digits_gb", address=address, traffic_key="shop") as ask, pytest.raises(RefusedRow) as refused:
        ask(table(keys))
    assert (refused.value.row, refused.value.text) == (1, "want a traffic key, got none")
    with Ask("digits_gb", address=address, traffic_key="shop", on_bad_rows="keep") as ask:
        errors = ask(table(keys)).column("error").to_pylist()
    assert [error and error["code"] for error in errors] == [None, "INVALID_ARGUMENT", None, "INVALID_ARGUMENT"]

    with (
        Ask("digits_gb", address=address, version=2, ignore_others=True) as plain,
        Ask("digits_gb", address=address, version=2, ignore_others=True, background=True) as background,
    ):
        assert background(table([*KEYS])).equals(plain(table([*KEYS])))

    batch = Batch(
        tmp_path,
        {"model": "digits_gb", "home": {"address": address}, "trafficKey": "shop", "keep": [], "onBadRows": "keep"},
    )
    (tmp_path / "data").mkdir()
    pq.write_table(table([*KEYS, None]), tmp_path / "data" / "shops.parquet")
    status, out, err = batch.run()
    assert status == 0, err
    assert out == f"{batch.output}: {len(KEYS)} rows, 1 bad rows by digits_gb, versions by traffic\n"
    records = batch.records()
    assert "shop" not in records.column_names
    assert [str(version) for version in records["triptych_version"].to_pylist()] == [online[key] for key in KEYS]
    assert len(set(records["triptych_contract"].to_pylist())) == 2

    batch.document["trafficKey"] = "region"
    status, _, err = batch.run("--replace")
    assert status == 1
    assert "column 'region' of `traffic_key` is not there" in err
