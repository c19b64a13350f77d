"""Cursors are opaque and checked; entity tags are compared weakly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderplane.gateway.http.cursors import cut_page, read_after, read_cursor, write_cursor
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.http.responses import etag_matches, etag_of_body, weak_etag

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200)
STATES = st.dictionaries(st.text(max_size=10), st.none() | TEXTS, max_size=4)


@given(STATES)
def test_a_cursor_comes_back_as_it_was(state: dict[str, str | None]) -> None:
    cursor = write_cursor("orders", state)
    assert read_cursor("orders", cursor) == state
    assert cursor.isascii()
    assert not set(cursor) & set("+/= &")


def test_a_place_in_a_list_by_key() -> None:
    assert read_after("products", None) == ""
    assert read_after("products", write_cursor("products", {"after": "TEA"})) == "TEA"


@pytest.mark.parametrize("state", [{}, {"after": None}, {"after": "TEA\0"}, {"before": "TEA"}])
def test_a_place_that_was_made_up_is_refused(state: dict[str, str | None]) -> None:
    with pytest.raises(Problem) as refusal:
        read_after("products", write_cursor("products", state))
    assert refusal.value.type.code == "invalid_cursor"


@given(STATES, st.data())
def test_a_cursor_that_was_altered_is_refused(state: dict[str, str | None], data: st.DataObject) -> None:
    cursor = write_cursor("orders", state)
    # The last character may carry spare bits that mean nothing.
    place = data.draw(st.integers(0, len(cursor) - 2))
    other = data.draw(st.sampled_from("ABCxyz019-_").filter(lambda character: character != cursor[place]))
    with pytest.raises(Problem) as refusal:
        read_cursor("orders", cursor[:place] + other + cursor[place + 1 :])
    assert refusal.value.type.code == "invalid_cursor"


@pytest.mark.parametrize("cursor", ["", "x", "abc", "é", "A" * 100, "!!!!", "bnVsbA"])
def test_garbage_is_refused(cursor: str) -> None:
    with pytest.raises(Problem):
        read_cursor("orders", cursor)


def test_a_cursor_belongs_to_one_list() -> None:
    with pytest.raises(Problem):
        read_cursor("orders", write_cursor("products", {"after": "TEA"}))


@pytest.mark.parametrize(
    ("header", "is_fresh"),
    [(None, False), ("", False), ('W/"7"', True), ('"7"', True), ('"6", W/"7"', True), ("*", True),
     ('W/"70"', False), ("7", False)],
)  # fmt: skip
def test_if_none_match_compares_weakly(header: str | None, is_fresh: bool) -> None:
    assert etag_matches(header, weak_etag("7")) is is_fresh


def test_the_tag_of_a_body_follows_its_content() -> None:
    assert etag_of_body(b"a") == etag_of_body(b"a") != etag_of_body(b"b")


@pytest.mark.parametrize(
    ("found", "page", "goes_on"), [("", "", None), ("ab", "ab", None), ("abc", "ab", "b")]
)
def test_a_page_goes_on_where_there_is_more(found: str, page: str, goes_on: str | None) -> None:
    cut, cursor = cut_page(list(found), 2, "letters", lambda last: {"after": last})
    assert "".join(cut) == page
    assert (read_after("letters", cursor) or None) == goes_on
