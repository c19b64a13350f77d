"""Sessions: found by their identifier alone, and for a bounded time."""

from typing import Any

from orderplane.console import sessions
from orderplane.console.sessions import Sessions


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def nothing() -> None:
    """Nobody to log out."""


def begin(held: Sessions, user: str = "ada") -> str:
    client: Any = None
    return held.begin(client, nothing, user=user, merchant="demo", is_admin=False)


def test_each_sign_in_has_an_identifier_and_a_token_of_its_own() -> None:
    held = Sessions(Clock())
    first, second = begin(held), begin(held)
    one, other = held.find(first), held.find(second)
    assert one and other and one is not other
    assert len({first, second, one.csrf, other.csrf}) == 4
    assert one.is_own_form(one.csrf)
    assert not any(one.is_own_form(token) for token in (other.csrf, "", None, "ä"))
    for wrong in (None, "", "x", first[:-1], one.csrf):
        assert held.find(wrong) is None


def test_it_ends_when_it_is_not_used_and_at_last_in_any_case() -> None:
    clock = Clock()
    held = Sessions(clock)
    idle, used = begin(held), begin(held)
    clock.now = sessions.IDLE_SECONDS - 1
    assert held.find(used)
    clock.now += 2
    assert held.find(idle) is None
    while clock.now < sessions.LIFETIME_SECONDS:
        session = held.find(used)
        assert session and held.holds(session)
        clock.now += sessions.IDLE_SECONDS - 1
    assert not held.holds(session)
    assert held.find(used) is None


def test_who_signs_out_is_out() -> None:
    held = Sessions(Clock())
    identifier = begin(held)
    session = held.find(identifier)
    assert session and held.end(identifier) is session
    assert held.find(identifier) is None
    assert not held.holds(session)
    assert held.end(identifier) is None


def test_the_one_that_was_used_longest_ago_makes_room() -> None:
    held = Sessions(Clock())
    first, second = begin(held), begin(held)
    assert held.find(first)
    for _ in range(sessions.MOST - 1):
        begin(held)
    assert held.find(second) is None
    assert held.find(first)
