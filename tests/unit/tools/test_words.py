"""The check for retired words: identifiers, texts and docstrings, each by patterns of its own."""

from __future__ import annotations

import pytest

from tools.words import ListError, activated, pieces, read_entries, uses_in, words_of

LIST = r"""
# a comment
allow trap doors?
name _doors?_ -> server
text \bdoors?\b -> server
start What\b|How\b -> a noun or an imperative
# 3: name _rooms?_ -> capacity
"""


def found(path: str, text: str) -> list[tuple[int, str]]:
    entries = [entry for entry in read_entries(LIST) if entry.active]
    return [(use.line, use.found) for use in uses_in(path, text, entries)]


@pytest.mark.parametrize(
    ("identifier", "words"),
    [
        ("OpenDoor", "_open_door_"),
        ("OPEN_DOOR", "_open_door_"),
        ("_door", "_door_"),
        ("GRPCDoor2Open", "_grpc_door2_open_"),
        ("doorway", "_doorway_"),
    ],
)
def test_an_identifier_is_split_into_its_words(identifier: str, words: str) -> None:
    assert words_of(identifier) == words


def test_identifiers_and_texts_of_python_are_found_with_their_lines() -> None:
    text = '"""The server."""\n\nclass OpenDoor:\n    """A line.\n\n    Through the door.\n    """\n\n    doorway = 1\n'
    assert found("a.py", text) == [(3, "open_door"[5:]), (6, "door")]


def test_a_docstring_that_begins_with_a_question_word_is_found() -> None:
    assert found("a.py", '"""What it is."""\nx = """How"""\ny = "What"\n') == [(1, "What"), (2, "How")]
    assert found("a.py", '"""The state that says what it is."""\n') == []


def test_a_path_and_the_keys_of_yaml_are_names_and_markdown_is_text() -> None:
    assert found("services/door/server.md", "nothing") == [(1, "door")]
    assert found("values.yaml", "openDoor: 1\n") == [(1, "door")]
    assert found("a.md", "An OpenDoor; a door\n") == [(1, "door")]


def test_the_names_in_the_code_of_markdown_are_names() -> None:
    assert found("a.md", "`OPEN_DOOR`\n```\nNAME OPEN_DOOR\n```\nOPEN_DOOR\n") == [(1, "open_door"[5:]), (3, "door")]


def test_a_text_that_is_allowed_is_not_checked() -> None:
    assert found("a.md", "a trap door\n") == []


def test_an_entry_with_uses_is_not_checked() -> None:
    assert found("a.py", "room = 1\n") == []


def test_a_line_that_is_no_entry_is_named() -> None:
    with pytest.raises(ListError, match="retired_words.txt:2: want 'SCOPE PATTERN -> INSTEAD', got 'door server'"):
        read_entries("# fine\ndoor server\n")


def test_entries_without_uses_become_active_and_the_others_have_their_count() -> None:
    entries = read_entries(LIST)
    counts = {entry: 2 if "door" in entry.pattern and entry.scope == "name" else 0 for entry in entries}
    text = activated(LIST, counts)
    assert "# 2: name  _doors?_ -> server\n" in text
    assert "\nname  _rooms?_ -> capacity\n" in text
    assert "\nallow trap doors?\n" in text
    assert {str(entry) for entry in read_entries(text)} == {str(entry) for entry in entries}


def test_every_piece_of_a_file_has_a_scope() -> None:
    assert {piece.scope for piece in pieces("tools/a.py", '"""A."""\nb = 1\n')} == {"name", "text", "start"}


def test_an_entry_of_a_folder_holds_there_alone() -> None:
    entries = read_entries("name@services/ _moves_ -> loader\n")
    assert [str(entry) for entry in entries] == ["name@services/ _moves_ -> loader"]
    assert [use.found for use in uses_in("services/a.py", "moves = 1\n", entries)] == ["moves"]
    assert not list(uses_in("tests/a.py", "moves = 1\n", entries))
