"""Which customer a caller is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderplane.crds.meta import CUSTOMER_PATTERN
from orderplane.gateway.principal import Principal, Role, customer_of

SUBJECTS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)
"""OpenID Connect Core 1.0, 2, and what `principal_of` takes."""


@pytest.mark.parametrize(
    "subject", ["u-2hx7", "c-1001", "5f7c8ec7c33c6c004bbafe82", "a_b.c-d", "sub-12", "A" * 63]
)
def test_a_subject_that_can_be_a_customer_is_one(subject: str) -> None:
    assert customer_of(subject) == subject


@pytest.mark.parametrize(
    "subject",
    [
        "auth0|5f7c8ec7",
        "google-oauth2|1035479",
        "samlp|shop|ada@example.org",
        "a" * 64,
        "_a",
        "a.",
        "a:b",
        "a/b",
    ],
)
def test_any_other_subject_is_a_digest_that_does_not_show_it(subject: str) -> None:
    assert re.fullmatch("sub-[0-9a-f]{32}", customer_of(subject))
    assert Principal("demo", subject, Role.CUSTOMER).customer == customer_of(subject)


def test_the_customer_of_a_subject_never_changes() -> None:
    """Its orders are found by it."""
    assert customer_of("auth0|5f7c8ec7") == "sub-621b3ebd936e3d561f86d5a77e7b36d5"


def test_nobody_is_named_as_the_digest_of_another() -> None:
    digest = customer_of("auth0|5f7c8ec7")
    assert customer_of(digest) not in (digest, "auth0|5f7c8ec7")


@given(st.lists(SUBJECTS, min_size=2, max_size=5, unique=True))
def test_each_subject_is_a_customer_of_its_own(subjects: list[str]) -> None:
    customers = [customer_of(subject) for subject in subjects]
    assert len(set(customers)) == len(subjects)
    assert all(re.fullmatch(CUSTOMER_PATTERN, customer) for customer in customers)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.CUSTOMER])
def test_who_is_no_customer_is_not_limited_to_one(role: Role) -> None:
    assert Principal("demo", "auth0|5f7c8ec7", role).customer is None
