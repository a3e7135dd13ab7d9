"""Fixtures for tests of contracts: documents to change, steps to run alone, pictures to send."""

from __future__ import annotations

import copy
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from triptych.contract import Contract, Environment, InputSpec, ParameterSpec, Plan, Scope, load_contract
from triptych.contract.steps.pictures.pictures import Pictures
from triptych.contract.steps.registry import parse_step

DATA = Path(__file__).parent / "data"

Apply = Callable[..., Environment]
Document = dict[str, Any]


@pytest.fixture(scope="session")
def data() -> Path:
    return DATA


@pytest.fixture(scope="session")
def digits() -> Contract:
    return load_contract(DATA / "digits_de.yaml")


@pytest.fixture(scope="session")
def sales() -> Contract:
    return load_contract(DATA / "sales_forecast_no.yaml")


@pytest.fixture(scope="session")
def digits_plan(digits: Contract) -> Plan:
    return Plan(digits)


@pytest.fixture(scope="session")
def sales_plan(sales: Contract) -> Plan:
    return Plan(sales)


def _document(name: str) -> Document:
    return dict(YAML(typ="safe", pure=True).load((DATA / name).read_text(encoding="utf-8")))


@pytest.fixture
def digits_document() -> Document:
    """The digits contract as plain data, which tests change."""
    return copy.deepcopy(_document("digits_de.yaml"))


@pytest.fixture
def sales_document() -> Document:
    return copy.deepcopy(_document("sales_forecast_no.yaml"))


@pytest.fixture(scope="session")
def apply() -> Apply:
    """Run one step over values: `apply({"op": ...}, x=array)`."""

    def run(step: Mapping[str, Any], scope: Mapping[str, Any] | None = None, **values: Any) -> Environment:
        said = dict(scope or {})
        declared = Scope(
            inputs={d["name"]: InputSpec.model_validate(d) for d in said.get("inputs", ())},
            parameters={d["name"]: ParameterSpec.model_validate(d) for d in said.get("parameters", ())},
            labels={name: tuple(words) for name, words in said.get("labels", {}).items()},
        )
        rows = said.get("rows") or len(next(iter(values.values())))
        env = Environment(values, rows, said.get("values", {}))
        parse_step(step).compile(declared)(env)
        for name, value in env.items():
            if isinstance(value, Pictures):
                env[name] = list(value)  # made now
        return env

    return run


@pytest.fixture(scope="session")
def files() -> Callable[..., np.ndarray[Any, Any]]:
    """Encoded files as a BYTES tensor."""

    def tensor(*contents: bytes) -> np.ndarray[Any, Any]:
        array = np.empty(len(contents), np.object_)
        array[:] = contents
        return array

    return tensor


@pytest.fixture(scope="session")
def png_of() -> Callable[..., bytes]:
    """A PNG of any header and any pixel bytes, encoded with zlib alone."""

    def png(width: int, height: int, raw: bytes, *, depth: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
        header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
        return (
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw))
            + chunk(b"IEND", b"")
        )  # fmt: skip

    return png


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
