"""Links of the Markdown pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.docs.pages import CHANGES, DECISIONS, ROOT, Page, pages, slug

PAGES = pages()
IDS = [str(file.relative_to(ROOT)) for file in PAGES]


def faults_of(page: Page, known: dict[Path, Page]) -> list[str]:
    faults = []
    for link in page.links:
        path, _, anchor = link.partition("#")
        target = (page.file.parent / path).resolve() if path else page.file
        if not target.exists():
            faults.append(f"{link}: no such file")
        elif anchor and (target not in known or anchor not in known[target].anchors):
            faults.append(f"{link}: no such heading")
    return faults


@pytest.mark.parametrize("page", PAGES.values(), ids=IDS)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Page) -> None:
    assert not faults_of(page, PAGES)


@pytest.mark.parametrize("page", PAGES.values(), ids=IDS)
def test_every_path_in_code_exists(page: Page) -> None:
    if DECISIONS in page.file.parents or page.file == CHANGES:
        return
    assert not [path for path in page.paths if not (ROOT / path).exists()]


def test_every_page_of_docs_is_reached_from_the_index() -> None:
    index, docs = ROOT / "docs/index.md", ROOT / "docs"
    reached, open_pages = set(), [index]
    while open_pages:
        file = open_pages.pop()
        if file in reached or file not in PAGES:
            continue
        reached.add(file)
        targets = ((file.parent / link.partition("#")[0]).resolve() for link in PAGES[file].links)
        open_pages += [target for target in targets if docs in target.parents]
    assert {file for file in PAGES if docs in file.parents} == reached


def test_a_link_to_nothing_is_found(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("# A `b` c\n[a](page.md#a-b-c) [b](gone.md) [c](#d) [d](https://example.org/x.md)\n`[e](f.md)`\n")
    page = Page(file)
    assert faults_of(page, {file: page}) == ["gone.md: no such file", "#d: no such heading"]


@pytest.mark.parametrize(("heading", "anchor"), [("Group or separate?", "group-or-separate"), ("`a_b`, c", "a_b-c")])
def test_anchors_are_those_of_github(heading: str, anchor: str) -> None:
    assert slug(heading) == anchor
