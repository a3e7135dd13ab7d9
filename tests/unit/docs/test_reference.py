"""Generated tables of docs/reference."""

from __future__ import annotations

import pytest

from tools.reference import DOCS, TABLES, generated


@pytest.mark.parametrize("page", sorted({page for page, _ in TABLES}))
def test_the_committed_tables_are_current(page: str) -> None:
    text = (DOCS / page).read_text("utf-8")
    assert generated(text, page) == text, "make reference"


def test_an_old_table_is_replaced() -> None:
    text = "before\n<!-- errors: begin -->\nancient\n<!-- errors: end -->\nafter\n"
    new = generated(text, "reference/errors.md")
    assert new.startswith("before\n<!-- errors: begin -->\n")
    assert new.endswith("<!-- errors: end -->\nafter\n")
    assert "ancient" not in new
    assert "`InvalidInput` | `INVALID_ARGUMENT`" in new


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="want one <!-- errors: begin -->"):
        generated("nothing", "reference/errors.md")
