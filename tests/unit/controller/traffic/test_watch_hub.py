"""The stream of the catalog: whole first, then changes, and no memory for slow watchers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from controller.call_slots import CallSlots
from controller.metrics import ControllerMetrics
from controller.traffic import watch_hub as watch_hub_module
from controller.traffic.watch_hub import WatchHub
from tests.unit.controller.traffic.watching import watch
from triptych.errors import Draining, Overloaded
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call


def make_watch_hub(max_watchers: int = 10, registry: CollectorRegistry | None = None) -> WatchHub:
    slots = CallSlots(max_watchers, max_watchers, "watchers follow the catalog")
    return WatchHub(ControllerMetrics(registry or CollectorRegistry()), slots)


def model(name: str, *predictors: str, percent: int = 100) -> cp.Model:
    family, _, route = name.rpartition("_")
    versions = [cp.Version(version=1, percent=percent, predictors=predictors)]
    return cp.Model(name=name, family=family, route=route.upper(), versions=versions)


def models(*names: str) -> dict[str, cp.Model]:
    return {name: model(name) for name in names}


def names(update: cp.CatalogUpdate) -> list[str]:
    return [model.name for model in update.models]


async def test_the_first_update_is_whole_and_waits_for_the_first_catalog() -> None:
    watch_hub = make_watch_hub()
    first = asyncio.ensure_future(anext(watch(watch_hub)))
    await asyncio.sleep(0)
    assert not first.done()
    assert not watch_hub.published
    watch_hub.publish({"sales_fr": model("sales_fr"), "sales_de": model("sales_de", "triton:8001")})
    update = await first
    assert (update.revision, update.full, names(update)) == (1, True, ["sales_de", "sales_fr"])
    assert update.models[0] == model("sales_de", "triton:8001")
    assert watch_hub.published


def test_aliases_in_another_order_are_no_change() -> None:
    watch_hub, one, other = make_watch_hub(), model("sales_de"), model("sales_de")
    for number in range(64):
        one.aliases[f"a{number}"] = number + 1
        other.aliases[f"a{63 - number}"] = 64 - number
    watch_hub.publish({"sales_de": one})
    revision = watch_hub._revision
    watch_hub.publish({"sales_de": other})
    assert watch_hub._revision == revision
    other.aliases["a0"] = 99
    watch_hub.publish({"sales_de": other})
    assert watch_hub._revision == revision + 1


async def test_a_large_catalog_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_hub_module, "PART_BYTES", 100)
    known = models(*(f"sales_{number}" for number in range(50)))
    watch_hub = make_watch_hub()
    watch_hub.publish(known)
    parts, received = watch_hub.updates(Call.within(60)), list[cp.CatalogUpdate]()
    while not received or received[-1].more:
        received.append(cp.CatalogUpdate.FromString(await anext(parts)))
    assert len(received) > 10
    assert max(part.ByteSize() for part in received) < 200
    assert [part.full for part in received] == [True] + [False] * (len(received) - 1)
    assert {name for part in received for name in names(part)} == known.keys()


async def test_a_watcher_of_many_models_gets_the_whole_as_it_was_encoded_for_others_and_the_changes_since() -> None:
    watch_hub = make_watch_hub()
    watch_hub.publish(models(*(f"sales_{number}" for number in range(300))))
    await anext(watch(watch_hub))
    watch_hub.publish({"sales_0": model("sales_0", percent=0)}, gone=["sales_1"])
    late = watch(watch_hub)
    whole, changes = await anext(late), await anext(late)
    assert (whole.revision, len(whole.models)) == (1, 300)
    assert (changes.revision, names(changes), list(changes.removed)) == (2, ["sales_0"], ["sales_1"])
    for percent in (1, 2):
        watch_hub.publish({"sales_0": model("sales_0", percent=percent)})
    assert (await anext(watch(watch_hub))).revision == 4, "the other one is too far behind"


async def test_an_empty_catalog_is_an_answer_too() -> None:
    watch_hub = make_watch_hub()
    watch_hub.publish({})
    assert await anext(watch(watch_hub)) == cp.CatalogUpdate(revision=1, full=True)


async def test_changes_that_come_together_are_one_update_for_a_watcher_that_waits() -> None:
    watch_hub = make_watch_hub()
    watch_hub.publish({"sales_de": model("sales_de")})
    stream = watch(watch_hub)
    await anext(stream)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    watch_hub.publish({"sales_fr": model("sales_fr")})
    await asyncio.sleep(0)
    watch_hub.publish({"sales_it": model("sales_it")})
    assert names(await waiting) == ["sales_fr", "sales_it"]


async def test_later_updates_hold_only_what_changed() -> None:
    watch_hub = make_watch_hub()
    watch_hub.publish(models("sales_de", "sales_fr"))
    updates = watch(watch_hub)
    await anext(updates)
    watch_hub.publish({"sales_de": model("sales_de"), "sales_fr": model("sales_fr", "triton:8001")})
    update = await anext(updates)
    assert (update.revision, update.full, names(update)) == (2, False, ["sales_fr"])
    watch_hub.publish({}, gone=["sales_de"])
    update = await anext(updates)
    assert (update.full, names(update), list(update.removed)) == (False, [], ["sales_de"])


async def test_a_change_without_a_visible_effect_is_no_update() -> None:
    watch_hub = make_watch_hub()
    watch_hub.publish(models("sales_de"))
    updates = watch(watch_hub)
    await anext(updates)
    watch_hub.publish(models("sales_de"))
    watch_hub.publish({})
    watch_hub.publish({}, gone=["never_there"])
    watch_hub.publish({"sales_de": model("sales_de", "triton:8001")})
    assert (await anext(updates)).revision == 2


async def test_a_slow_watcher_gets_many_changes_as_one() -> None:
    watch_hub = make_watch_hub()
    watch_hub.publish(models("sales_de"))
    updates = watch(watch_hub)
    await anext(updates)
    for number in range(1000):
        watch_hub.publish({"sales_de": model("sales_de", f"triton:{number}")})
    update = await anext(updates)
    assert (update.revision, list(update.models[0].versions[0].predictors)) == (1001, ["triton:999"])


async def test_a_watcher_that_comes_later_gets_the_whole_at_the_revision_of_the_others() -> None:
    watch_hub = make_watch_hub()
    watch_hub.publish(models("sales_de"))
    watch_hub.publish(models("sales_fr"))
    update = await anext(watch(watch_hub))
    assert (update.revision, update.full, names(update)) == (2, True, ["sales_de", "sales_fr"])


async def test_a_change_wakes_every_watcher() -> None:
    watch_hub = make_watch_hub(100)
    watch_hub.publish(models("sales_de"))
    streams = [watch(watch_hub) for _ in range(100)]
    await asyncio.gather(*(anext(stream) for stream in streams))
    waiting = asyncio.gather(*(anext(stream) for stream in streams))
    await asyncio.sleep(0)
    watch_hub.publish({"sales_de": model("sales_de", "triton:8001")})
    assert {update.revision for update in await waiting} == {2}


async def test_watchers_are_counted_and_bounded() -> None:
    registry = CollectorRegistry()
    watch_hub = make_watch_hub(1, registry)
    watch_hub.publish({})
    first = watch(watch_hub)
    await anext(first)
    assert registry.get_sample_value("triptych_watchers") == 1
    with pytest.raises(Overloaded, match="1 watchers follow the catalog, the limit"):
        await anext(watch(watch_hub))
    await first.aclose()
    assert registry.get_sample_value("triptych_watchers") == 0
    await anext(watch(watch_hub))


async def test_closing_ends_watchers_that_wait_and_those_that_come() -> None:
    watch_hub = make_watch_hub()
    watch_hub.publish({})
    updates = watch(watch_hub)
    await anext(updates)
    waiting = asyncio.ensure_future(anext(updates))
    await asyncio.sleep(0)
    watch_hub.close()
    for ended in (waiting, anext(watch(watch_hub))):
        with pytest.raises(Draining):
            await ended


# What is published: models with a percent, and those that go; or a look of one of two watchers.
steps = st.lists(
    st.one_of(
        st.tuples(
            st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3), max_size=3), st.sets(st.sampled_from("abcd"))
        ),
        st.integers(0, 1),
    ),
    max_size=30,
)


@settings(max_examples=50, deadline=None)
@given(steps, st.sampled_from([0, 1000]))
async def test_a_watcher_that_applies_the_updates_in_order_has_what_was_published_last(
    steps: list[Any], part_bytes: int
) -> None:
    """Memory is bounded however rarely the watcher reads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch_hub_module, "PART_BYTES", part_bytes)
        await check_watchers(steps)


async def check_watchers(steps: list[Any]) -> None:
    watch_hub, truth = make_watch_hub(), dict[str, cp.Model]()
    watch_hub.publish({})
    streams, copies = [watch(watch_hub), watch(watch_hub)], [dict[str, cp.Model](), dict[str, cp.Model]()]
    revisions = [0, 0]

    async def look(index: int) -> None:
        update = await anext(streams[index])
        assert update.full == (revisions[index] == 0)
        assert update.revision > revisions[index]
        revisions[index] = update.revision
        copies[index] |= {each.name: each for each in update.models}
        for name in update.removed:
            copies[index].pop(name, None)  # it may have come and gone between two updates
        assert copies[index] == truth

    for step in [*steps, ({"e": 1}, set()), 0, 1]:
        if isinstance(step, int):
            if revisions[step] < watch_hub._revision:
                await look(step)
            continue
        changed = {name: model(name, percent=percent) for name, percent in step[0].items() if name not in step[1]}
        watch_hub.publish(changed, step[1])
        truth = {name: each for name, each in (truth | changed).items() if name not in step[1]}
    assert copies[0] == copies[1] == truth
