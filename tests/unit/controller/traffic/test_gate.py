"""The traffic in force: a good version keeps its share until all new ones have been loaded."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from controller.catalog.entities import Model, Version
from controller.traffic.gate import WAITING, TrafficDecision, TrafficGate, without
from triptych.contract.verification.families import VersionIdentity

Shares = Mapping[int, int]

VERSIONS = (1, 2, 3, 4, 5)
BROKEN = {4: "model.onnx: protobuf parsing failed"}


def ready(*versions: int) -> dict[int, tuple[str, ...]]:
    return dict.fromkeys(versions, ("triton:8001",))


def version(number: int, digest: str = "") -> Version:
    return Version(number, VersionIdentity("sales", "DE", ""), b"", digest or f"sha256 of {number}")


def model(traffic: Shares, versions: tuple[int, ...] = VERSIONS, before: Shares | None = None) -> Model:
    known = {number: version(number) for number in versions}
    return Model("sales_de", "sales", "DE", b"", known, traffic, traffic_before=before or {})


def good(traffic: Shares) -> TrafficGate:
    """A gate of a model whose traffic has been in force, its versions loaded."""
    gate = TrafficGate()
    assert gate.decide(model(traffic), ready(*traffic), {}) == TrafficDecision(traffic)
    return gate


def test_a_version_that_is_loaded_gets_its_share_at_once() -> None:
    assert TrafficGate().decide(model({3: 95, 4: 5}), ready(3, 4), {}) == TrafficDecision({3: 95, 4: 5})


def test_a_new_version_gets_its_share_once_it_has_been_loaded() -> None:
    gate, asked = good({3: 100}), model({3: 95, 4: 5})
    assert gate.decide(asked, ready(3), {}) == TrafficDecision({3: 100}, {4: WAITING}, frozenset({4}))
    assert gate.decide(asked, ready(3, 4), {}) == TrafficDecision({3: 95, 4: 5})


def test_a_new_version_that_fails_leaves_the_traffic_as_it_was_and_says_why() -> None:
    gate, asked = good({3: 100}), model({4: 100})
    assert gate.decide(asked, ready(3), BROKEN) == TrafficDecision({3: 100}, BROKEN, frozenset())


@pytest.mark.parametrize("loaded", [(3,), ()])
def test_a_new_version_that_fails_leaves_it_to_the_old_one_loaded_at_the_moment_or_not(loaded: tuple[int, ...]) -> None:
    gate, asked = good({3: 100}), model({4: 100})
    gate.decide(asked, ready(*loaded), {})
    assert gate.decide(asked, ready(*loaded), BROKEN).in_force == {3: 100}


def test_of_several_new_versions_none_has_a_share_before_all_of_them_are_loaded() -> None:
    gate, asked = good({3: 100}), model({4: 50, 5: 50})
    assert gate.decide(asked, ready(3, 4), {}).in_force == {3: 100}
    assert gate.decide(asked, ready(3, 4, 5), {}) == TrafficDecision({4: 50, 5: 50})


def test_new_versions_need_not_be_loaded_at_the_same_moment() -> None:
    gate, asked = good({3: 100}), model({4: 50, 5: 50})
    gate.decide(asked, ready(3, 4), {})
    assert gate.decide(asked, ready(3, 5), {}) == TrafficDecision({4: 50, 5: 50})


def test_what_is_in_force_stays_so_when_it_is_unloaded_for_want_of_use() -> None:
    assert good({3: 95, 4: 5}).decide(model({3: 95, 4: 5}), {}, {}) == TrafficDecision({3: 95, 4: 5})


def test_a_version_that_fails_on_one_triton_and_is_ready_on_another_keeps_its_share() -> None:
    assert good({3: 50, 4: 50}).decide(model({3: 50, 4: 50}), ready(3, 4), BROKEN).in_force == {3: 50, 4: 50}


def test_a_version_in_force_that_cannot_be_loaded_again_gives_its_share_to_the_largest() -> None:
    traffic = good({1: 20, 3: 45, 4: 35}).decide(model({1: 20, 3: 45, 4: 35}), ready(1, 3), BROKEN)
    assert (traffic.in_force, traffic.held_back) == ({1: 20, 3: 80}, BROKEN)


def test_it_gets_its_share_again_when_it_has_been_loaded_well() -> None:
    gate, asked = good({3: 50, 4: 50}), model({3: 50, 4: 50})
    gate.decide(asked, ready(3), BROKEN)
    assert gate.decide(asked, ready(3, 4), {}) == TrafficDecision({3: 50, 4: 50})


def test_it_does_not_get_its_share_again_because_its_failure_has_expired() -> None:
    """Otherwise half of the requests fail again whenever the reason of a failed load expires."""
    gate, asked = good({3: 50, 4: 50}), model({3: 50, 4: 50})
    gate.decide(asked, ready(3), BROKEN)
    assert gate.decide(asked, ready(3), {}) == TrafficDecision({3: 100}, {4: WAITING}, frozenset({4}))


def test_when_nothing_is_known_the_largest_share_replaces_those_that_are_not_loaded() -> None:
    assert TrafficGate().decide(model({3: 95, 4: 5}), {}, {}).in_force == {3: 100}


def test_when_nothing_is_known_versions_that_wait_for_their_share_are_loaded_without_a_request() -> None:
    """After a fresh install nobody may ever ask, and `kubectl wait` waits for the shares."""
    gate, asked = TrafficGate(), model({3: 90, 4: 5, 5: 5})
    assert gate.decide(asked, {}, {}).to_prove == {4, 5}
    assert gate.decide(asked, ready(4), {}).to_prove == {5}
    assert gate.decide(asked, ready(4, 5), {}) == TrafficDecision({3: 90, 4: 5, 5: 5})


def test_at_a_start_no_version_with_all_of_the_traffic_is_loaded_without_a_request() -> None:
    """Thousands of models with one version each are loaded when somebody asks for them."""
    assert TrafficGate().decide(model({4: 100}), {}, {}) == TrafficDecision({4: 100})


def test_when_nothing_is_known_nobody_waits_for_the_load_of_the_largest_share() -> None:
    assert TrafficGate().decide(model({3: 95, 4: 5}), ready(4), {}) == TrafficDecision({3: 95, 4: 5})
    assert TrafficGate().decide(model({3: 50, 4: 50}), {}, {}).in_force == {3: 100}


def test_when_all_that_was_asked_for_fails_what_is_loaded_answers() -> None:
    assert TrafficGate().decide(model({4: 100}), ready(2, 3), BROKEN) == TrafficDecision({3: 100}, BROKEN, frozenset())


def test_when_nothing_else_is_there_a_version_that_fails_keeps_its_share_and_its_reason_reaches_the_callers() -> None:
    assert TrafficGate().decide(model({4: 100}), {}, BROKEN).in_force == {4: 100}


def test_a_version_of_that_number_with_another_contract_has_to_be_loaded_anew() -> None:
    gate, asked = good({3: 100}), model({4: 100})
    gate.decide(model({3: 100}), ready(3, 4), {})
    versions = {**asked.versions, 4: version(4, "another")}
    other = Model("sales_de", "sales", "DE", b"", versions, {4: 100})
    assert gate.decide(other, ready(3), {}).in_force == {3: 100}


def test_removed_models_are_dropped() -> None:
    gate = good({3: 100})
    gate.prune({"sales_de": None})
    assert gate.decide(model({4: 100}), {}, {}).in_force == {3: 100}
    gate.prune({"sales_fr": None})
    assert gate.decide(model({4: 100}), {}, {}).in_force == {4: 100}


def test_a_version_called_by_its_number_and_gone_since_is_loaded_before_it_gets_a_share() -> None:
    """A dark launch proves a version at that moment; a week later its load may fail."""
    gate = good({3: 100})
    gate.decide(model({3: 100, 4: 0}), ready(3, 4), {})
    gate.decide(model({3: 100, 4: 0}), ready(3), {})
    assert gate.decide(model({4: 100}), ready(3), {}) == TrafficDecision({3: 100, 4: 0}, {4: WAITING}, frozenset({4}))


def test_it_takes_nothing_from_the_good_one_when_that_load_fails() -> None:
    gate = good({3: 100})
    gate.decide(model({3: 100, 4: 0}), ready(3, 4), {})
    gate.decide(model({3: 100, 4: 0}), {}, {})
    gate.decide(model({4: 100}), {}, {})
    assert gate.decide(model({4: 100}), {}, BROKEN).in_force[3] == 100


def test_the_files_of_an_old_dark_version_can_be_removed_while_a_new_one_waits() -> None:
    gate = good({2: 0, 3: 100})
    assert gate.decide(model({4: 100}, versions=(3, 4)), ready(3), {}).in_force == {3: 100}
    assert gate.decide(model({4: 100}, versions=(3, 4)), {}, BROKEN).in_force == {3: 100}


def test_when_one_of_two_good_versions_is_removed_the_other_stays_and_the_new_one_waits() -> None:
    gate = good({2: 40, 3: 60})
    assert gate.decide(model({4: 100}, versions=(3, 4)), ready(3), {}).in_force == {3: 100}


def test_a_version_that_took_over_for_one_that_failed_is_good_too() -> None:
    """Traffic of a working version is not given to a version that is not loaded yet."""
    gate = TrafficGate()
    gate.decide(model({3: 40, 4: 60}), {}, {})
    assert gate.decide(model({3: 40, 4: 60}), ready(3), BROKEN).in_force == {3: 100}
    assert gate.decide(model({5: 100}), ready(3), BROKEN).in_force == {3: 100}
    assert gate.decide(model({5: 100}), {}, {}).in_force == {3: 100}


def test_a_dark_launch_does_not_get_traffic_while_another_version_answers() -> None:
    assert TrafficGate().decide(model({4: 100, 5: 0}), ready(3, 5), BROKEN).in_force == {3: 100}


def test_every_version_that_lacks_its_share_says_why() -> None:
    """The same holds for a loaded version that waits for another one of the same document."""
    held = good({3: 100}).decide(model({4: 50, 5: 50}), ready(3, 4), {}).held_back
    assert set(held) == {4, 5}
    assert held[4] != held[5] == WAITING


# For the lead: traffic_before (in force before this process began) is the last good traffic at the start.
def test_after_a_restart_what_was_in_force_before_stays_until_the_new_versions_are_loaded() -> None:
    gate, asked = TrafficGate(), model({4: 100}, before={3: 100})
    assert gate.decide(asked, {}, {}) == TrafficDecision({3: 100}, {4: WAITING}, frozenset({4}))
    assert gate.decide(asked, {}, BROKEN) == TrafficDecision({3: 100}, BROKEN, frozenset())
    assert gate.decide(asked, ready(4), {}) == TrafficDecision({4: 100})
    assert gate.decide(asked, {}, {}) == TrafficDecision({4: 100})


def test_after_a_restart_with_nothing_new_shares_stay_as_they_were_and_nothing_is_loaded() -> None:
    assert TrafficGate().decide(model({3: 95, 4: 5}, before={3: 95, 4: 5}), {}, {}) == TrafficDecision({3: 95, 4: 5})


def test_of_the_traffic_before_a_restart_only_what_still_exists_counts() -> None:
    gate = TrafficGate()
    assert gate.decide(model({4: 100}, versions=(3, 4), before={2: 50, 3: 50}), {}, {}).in_force == {3: 100}
    assert TrafficGate().decide(model({4: 100}, versions=(4,), before={3: 100}), {}, {}).in_force == {4: 100}


def test_the_traffic_before_a_restart_no_longer_counts_once_something_else_was_in_force() -> None:
    gate = TrafficGate()
    assert gate.decide(model({4: 100}, before={3: 100}), ready(4), {}).in_force == {4: 100}
    assert gate.decide(model({5: 100}, before={3: 100}), ready(4), {}).in_force == {4: 100}


@given(st.dictionaries(st.integers(1, 9), st.integers(0, 100), max_size=6), st.sets(st.integers(1, 9)))
def test_shares_without_some_versions_are_100_in_all_or_none(shares: dict[int, int], dropped: set[int]) -> None:
    if sum(shares.values()) > 100:
        return
    left = without(shares, dropped)
    assert left.keys() <= shares.keys() - dropped
    assert sum(left.values()) == (100 if left else 0)
    assert all(percent >= shares[number] for number, percent in left.items())
    assert bool(left) == any(percent for number, percent in shares.items() if number not in dropped)


documents = (
    st.lists(st.sampled_from(VERSIONS), min_size=1, max_size=3, unique=True)
    .flatmap(
        lambda numbers: st.lists(st.integers(0, 10), min_size=len(numbers) - 1, max_size=len(numbers) - 1).map(
            lambda tens: {number: 10 * ten for number, ten in zip(numbers, [*tens, 10 - sum(tens)], strict=True)}
        )
    )
    .filter(lambda shares: min(shares.values()) >= 0)
)


class AnyOrder(RuleBasedStateMachine):
    """Documents, loads, failures and removals as they come; after each the gate decides, and its rules are checked."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = TrafficGate()
        self.ready: set[int] = set()
        self.failures: dict[int, str] = {}
        self.versions = set(VERSIONS)
        self.bad: set[int] = set()  # failed, and was not ready since
        self.worked: set[int] = set()  # was ready once, and did not fail since
        self.loaded: set[int] = set()  # the same, since the document asks for it
        self.before: Shares | None = None

    @initialize(asked=documents)
    def start(self, asked: dict[int, int]) -> None:
        self.asked = asked
        self.decide()

    @rule(asked=documents)
    def apply(self, asked: dict[int, int]) -> None:
        if asked.keys() <= self.versions:
            self.loaded &= {number for number, percent in self.asked.items() if percent}
            self.asked = asked
            self.decide()

    @rule(number=st.sampled_from(VERSIONS))
    def load(self, number: int) -> None:
        if number in self.versions:
            self.ready.add(number)
            self.failures.pop(number, None)
            self.decide()

    @rule(number=st.sampled_from(VERSIONS))
    def unload(self, number: int) -> None:
        self.ready.discard(number)
        self.decide()

    @rule(number=st.sampled_from(VERSIONS))
    def fail(self, number: int) -> None:
        self.failures[number] = "out of memory"
        self.decide()

    @precondition(lambda self: self.failures)
    @rule()
    def forget_failures(self) -> None:
        self.failures.clear()
        self.decide()

    @rule(number=st.sampled_from(VERSIONS))
    def remove(self, number: int) -> None:
        """Keep versions that a document names, as the catalog does."""
        if number not in self.asked:
            self.versions.discard(number)
            self.ready.discard(number)
            self.decide()

    def decide(self) -> None:
        self.bad = (self.bad | self.failures.keys()) - self.ready
        self.worked = (self.worked | self.ready) - self.bad
        self.loaded = (self.loaded | self.ready) - self.bad
        previous = getattr(self, "now", None)
        self.before = previous.in_force if previous else None
        failures = {number: text for number, text in self.failures.items() if number in self.versions}
        self.now = self.gate.decide(model(self.asked, tuple(sorted(self.versions))), ready(*self.ready), failures)

    def usable(self, shares: Shares) -> set[int]:
        """Versions with a share that can go on answering."""
        return {number for number, percent in shares.items() if percent} & self.versions & self.worked

    @invariant()
    def shares_are_100_in_all_and_of_versions_that_exist(self) -> None:
        assert sum(self.now.in_force.values()) == 100
        assert min(self.now.in_force.values()) >= 0
        assert self.now.in_force.keys() <= self.versions

    @invariant()
    def nothing_takes_traffic_from_a_good_version_before_it_is_loaded(self) -> None:
        if self.before is None or not self.usable(self.before):
            return
        for number, percent in self.now.in_force.items():
            assert not percent or self.before.get(number) or number in self.loaded, f"{number} was not loaded"

    @invariant()
    def what_failed_has_no_share_while_a_good_version_exists(self) -> None:
        has_share = {number for number, percent in self.now.in_force.items() if percent}
        others = {number for number, percent in self.asked.items() if percent} & self.ready
        if others or (self.before and self.usable(self.before)):
            assert not has_share & self.bad

    @invariant()
    def what_was_good_stays_until_all_that_is_new_was_loaded(self) -> None:
        if self.before is None:
            return
        had_share = {number for number, percent in self.before.items() if percent}
        new = {number for number, percent in self.asked.items() if percent} - had_share
        if new - self.loaded and self.usable(self.before) == had_share:
            shares = {number: percent for number, percent in self.now.in_force.items() if percent}
            assert shares == {number: self.before[number] for number in had_share}

    @invariant()
    def what_is_all_loaded_is_in_force(self) -> None:
        if {number for number, percent in self.asked.items() if percent} <= self.ready:
            assert self.now == TrafficDecision(self.asked)

    @invariant()
    def what_lacks_its_share_says_why_and_is_loaded_unless_it_failed(self) -> None:
        short = {number for number, percent in self.asked.items() if self.now.in_force.get(number, 0) < percent}
        assert self.now.held_back.keys() == short
        assert self.now.to_prove <= short - self.failures.keys() - self.ready


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)
TestAnyOrder = AnyOrder.TestCase
