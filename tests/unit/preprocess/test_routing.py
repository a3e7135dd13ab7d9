"""The split of traffic by version."""

from hashlib import blake2b
from typing import Any

import pytest

from preprocess import routing
from preprocess.catalog import RoutableModel, Target
from preprocess.routing import choose
from triptych.protocol import controller_pb2 as cp

KEYS = [f"customer-{number}" for number in range(20_000)]


def split(**percents: int) -> tuple[Target, ...]:
    versions = [cp.Version(version=int(name[1:]), percent=share) for name, share in percents.items()]
    return RoutableModel(cp.Model(name="m", versions=versions)).split


def chosen(**percents: int) -> dict[str, int]:
    shares = split(**percents)
    return {key: choose(shares, key).version for key in KEYS}


@pytest.mark.parametrize("percent", [1, 5, 50, 95])
def test_a_version_gets_its_share_of_keys(percent: int) -> None:
    got = sum(version == 4 for version in chosen(v3=100 - percent, v4=percent).values()) / len(KEYS)
    deviation = (percent / 100 * (1 - percent / 100) / len(KEYS)) ** 0.5
    assert abs(got - percent / 100) < 5 * deviation


def test_three_versions_get_their_shares() -> None:
    versions = list(chosen(v1=60, v2=30, v3=10).values())
    for version, share in ((1, 0.6), (2, 0.3), (3, 0.1)):
        assert abs(versions.count(version) / len(KEYS) - share) < 0.02


def test_raising_a_share_moves_no_key_that_was_in_it() -> None:
    before, after = chosen(v3=95, v4=5), chosen(v3=90, v4=10)
    assert all(after[key] == 4 for key in KEYS if before[key] == 4)


def test_promotion_in_steps_moves_each_key_once() -> None:
    steps = [chosen(v3=100 - percent, v4=percent) for percent in (5, 25, 50, 75)]
    for key in KEYS:
        versions = [step[key] for step in steps]
        assert versions == sorted(versions)


def test_a_version_with_no_share_is_never_chosen() -> None:
    assert set(chosen(v3=100, v4=0).values()) == {3}


def test_requests_without_a_key_are_split_too() -> None:
    shares = split(v1=50, v2=50)
    assert {choose(shares, "").version for _ in range(100)} == {1, 2}


def test_a_long_key_is_hashed_once_and_not_for_each_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of ChooseVersions with 1,024 keys of 32 KB stopped the loop for 6.6 s if 32 versions had shares."""
    hashed = 0

    def counted(data: bytes, digest_size: int) -> Any:
        nonlocal hashed
        hashed += len(data)
        return blake2b(data, digest_size=digest_size)

    monkeypatch.setattr(routing, "blake2b", counted)
    shares = split(**{f"v{number}": 3 for number in range(1, 33)})
    keys = [f"{'k' * 10_000}{number}" for number in range(200)]
    found = [choose(shares, key).version for key in keys]
    assert hashed < 2 * sum(map(len, keys))
    assert [choose(shares, key).version for key in keys] == found
    assert len(set(found)) > 16
