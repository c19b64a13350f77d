"""Parsing of idempotency keys, the names made from them, and fingerprints."""

import string

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderplane.crds.meta import MAX_ORDER_NAME
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.idempotency import fingerprint, hash_key, order_name, parse_key

VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F))
BARE = VISIBLE.replace('"', "").replace("\\", "")
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text()
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


@given(st.text(BARE, min_size=1, max_size=255))
def test_a_bare_key_and_the_same_key_quoted_are_one(key: str) -> None:
    assert parse_key([key]) == parse_key([f'"{key}"']) == key


@given(st.text(VISIBLE, min_size=1, max_size=255))
def test_a_structured_field_string_gives_back_what_was_quoted(key: str) -> None:
    quoted = key.replace("\\", r"\\").replace('"', r"\"")
    assert parse_key([f' "{quoted}" ']) == key


@pytest.mark.parametrize(
    "value",
    ["", '""', '"', '"a', 'a"', '"a"b', '"a"; p=1', r'"a\b"', "a b", '"a b"', "a, b", "é", "x" * 256,
     f'"{"x" * 256}"', "a\tb", "a\x7f", "\\"],
)  # fmt: skip
def test_a_malformed_key_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(Problem) as refusal:
        parse_key([value])
    assert refusal.value.type.code == "idempotency_key_invalid"
    assert len(value) < 4 or value not in refusal.value.detail


def test_no_key_and_two_keys_are_refused() -> None:
    with pytest.raises(Problem) as none:
        parse_key([])
    assert none.value.type.code == "idempotency_key_missing"
    with pytest.raises(Problem) as two:
        parse_key(["a", "a"])
    assert two.value.type.code == "idempotency_key_invalid"


@given(st.text(VISIBLE, min_size=1, max_size=255))
def test_an_order_name_is_a_name(key: str) -> None:
    name = order_name("demo", "demo", key)
    assert name == order_name("demo", "demo", key)
    assert len(name) == 28 <= MAX_ORDER_NAME
    assert set(name) <= set(string.ascii_lowercase + "234567-")


def test_order_names_tell_merchant_principal_and_key_apart() -> None:
    triples = [("a", "b", "c"), ("ab", "", "c"), ("a", "bc", ""), ("a,b", "c", ""), ("a", "b", "C")]
    assert len({order_name(*triple) for triple in triples}) == len(triples)


def test_the_name_of_a_key_never_changes() -> None:
    # A changed rule would make a second order for every key that is still in use.
    assert order_name("demo", "demo", "k1") == "o-haawa53hwunuo4vw5abbh6gthe"
    assert hash_key("k1").hex().startswith("6ab9f1eb")


@given(DOCUMENTS)
def test_a_fingerprint_ignores_order_of_members_and_white_space(document: object) -> None:
    spaced = orjson.loads(orjson.dumps(_reversed(document), option=orjson.OPT_INDENT_2))
    assert fingerprint(document) == fingerprint(spaced)


@given(DOCUMENTS, DOCUMENTS)
def test_other_content_has_another_fingerprint(one: object, other: object) -> None:
    same = orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(other, option=orjson.OPT_SORT_KEYS)
    assert (fingerprint(one) == fingerprint(other)) is same


def _reversed(document: object) -> object:
    if isinstance(document, dict):
        return {key: _reversed(document[key]) for key in reversed(list(document))}
    if isinstance(document, list):
        return [_reversed(part) for part in document]
    return document
