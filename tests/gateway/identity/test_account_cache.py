"""Roles of accounts are cached while changes are read, and no longer."""

import asyncio
from collections.abc import Sequence

import pytest

from orderplane.gateway.identity import authentication
from orderplane.gateway.identity.authentication import (
    MAX_STALENESS_SECONDS,
    REFRESH_SECONDS,
    AccountCache,
    Name,
)
from orderplane.ledgers.errors import Transient

ADA = ("demo", "u-ada")


class AccountSource:
    """Accounts in memory, with what a database could do to whoever asks."""

    def __init__(self) -> None:
        self.roles: dict[Name, str] = {ADA: "customer"}
        self.news: list[Name] = []
        self.ended: set[str | None] = set()
        self.is_silent = False
        self.asked = 0

    async def role_of(self, merchant: str, name: str, login: str | None) -> str | None:
        self.asked += 1
        role = self.roles.get((merchant, name))
        await self.pause()
        return None if login in self.ended else role

    async def pause(self) -> None:
        """While the answer is on its way."""

    async def recently_changed(self) -> Sequence[Name]:
        if self.is_silent:
            raise Transient("LedgerUnavailable", "no answer")
        return self.news


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def cached() -> tuple[AccountCache, AccountSource, Clock]:
    source, clock = AccountSource(), Clock()
    return AccountCache(source, clock), source, clock


async def test_who_is_known_is_not_asked_for_again_while_it_is_watched() -> None:
    cache, source, clock = cached()
    for _ in range(100):
        await cache.refresh()
        assert await cache.role_of(*ADA, None) == "customer"
        clock.now += REFRESH_SECONDS
    assert source.asked == 1


async def test_nothing_is_kept_for_ever() -> None:
    cache, source, clock = cached()
    for _ in range(1000):
        await cache.refresh()
        await cache.role_of(*ADA, None)
        clock.now += REFRESH_SECONDS
    assert 1 < source.asked < 5


async def test_who_has_gone_is_gone_with_the_next_look() -> None:
    cache, source, _ = cached()
    await cache.refresh()
    assert await cache.role_of(*ADA, None) == "customer"
    del source.roles[ADA]
    source.news = [ADA]
    await cache.refresh()
    assert await cache.role_of(*ADA, None) is None


async def test_who_was_read_before_and_kept_after_a_look_goes_with_the_one_after() -> None:
    """The look back is longer than the time between two looks, for exactly this."""
    cache, source, _ = cached()
    source.news = [ADA]
    await cache.refresh()
    assert await cache.role_of(*ADA, None) == "customer"
    del source.roles[ADA]
    await cache.refresh()
    assert await cache.role_of(*ADA, None) is None


async def test_without_having_looked_nothing_is_believed() -> None:
    cache, source, clock = cached()
    await cache.role_of(*ADA, None)
    await cache.role_of(*ADA, None)
    assert source.asked == 2
    await cache.refresh()
    source.is_silent = True
    clock.now += MAX_STALENESS_SECONDS + 0.1
    await cache.refresh()
    del source.roles[ADA]
    assert await cache.role_of(*ADA, None) is None


async def test_a_login_that_has_ended_is_told_from_the_others() -> None:
    cache, source, _ = cached()
    await cache.refresh()
    for login in ("phone", "laptop"):
        assert await cache.role_of(*ADA, login) == "customer"
    source.ended.add("phone")
    cache.forget(*ADA)
    assert await cache.role_of(*ADA, "phone") is None
    assert await cache.role_of(*ADA, "laptop") == "customer"


async def test_what_was_read_before_a_change_is_not_kept_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, source, _ = cached()
    await cache.refresh()

    async def change() -> None:
        del source.roles[ADA]
        cache.forget(*ADA)

    monkeypatch.setattr(source, "pause", change)
    assert await cache.role_of(*ADA, "phone") == "customer"
    monkeypatch.undo()
    assert await cache.role_of(*ADA, "phone") is None


async def test_one_account_with_many_logins_takes_little_room() -> None:
    cache, source, _ = cached()
    await cache.refresh()
    for number in range(1000):
        await cache.role_of(*ADA, str(number))
    assert sum(len(logins) for logins in cache._known.values()) <= 16
    assert source.asked == 1000


async def test_a_database_that_hangs_is_told_soon_and_not_asked_without_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(authentication, "ANSWER_SECONDS", 0.01)
    cache, source, _ = cached()
    thawed = asyncio.Event()

    async def hang() -> None:
        await thawed.wait()

    monkeypatch.setattr(source, "pause", hang)
    for _ in range(100):
        with pytest.raises(Transient):
            await cache.role_of(*ADA, None)
    assert source.asked < 100
    thawed.set()
    await asyncio.sleep(0)
    while cache._unanswered:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0)
    assert await cache.role_of(*ADA, None) == "customer"
