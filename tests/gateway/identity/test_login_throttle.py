"""Guesses are slowed down, and nobody is locked out where they have logged in before."""

import pytest

from orderplane.adapters.limits.memory import MemoryCounters
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.identity.login_throttle import (
    ACCOUNT_LIMIT,
    NETWORK_LIMIT,
    PAIR_LIMIT,
    Attempt,
    LoginThrottle,
)

HOME = "192.0.2.1"


class Known:
    """The networks where Ada has logged in."""

    def __init__(self) -> None:
        self.networks: set[str] = set()
        self.asked = 0

    async def has(self, attempt: Attempt) -> bool:
        self.asked += 1
        return attempt.network in self.networks

    async def add(self, _merchant: str, _user_id: str, address: str) -> None:
        self.networks.add(Attempt("", "", address).network)


class Door:
    """Guesses at it."""

    def __init__(self) -> None:
        self.known = Known()
        self.throttle = LoginThrottle(MemoryCounters(), self.known)  # type: ignore[arg-type]

    async def guess(self, address: str, account: str = "ada@example.org", times: int = 1) -> int:
        """How many of the wrong passwords were tried."""
        attempt = Attempt("demo", account, address)
        for number in range(times):
            try:
                await self.throttle.check(attempt)
            except Problem as problem:
                assert problem.type.code == "too_many_logins"
                assert int(problem.headers["Retry-After"]) > 0
                return number
            await self.throttle.failed(attempt)
        return times


@pytest.fixture
def door() -> Door:
    return Door()


async def test_ten_wrong_passwords_lock_nobody_out_from_elsewhere(door: Door) -> None:
    assert await door.guess("198.51.100.7", times=11) == PAIR_LIMIT.amount
    assert await door.guess(HOME) == 1


async def test_many_addresses_together_are_slow_and_the_owner_gets_in_from_home(door: Door) -> None:
    await door.throttle.succeeded("demo", "u-ada", HOME)
    tried = 0
    for number in range(200):
        tried += await door.guess(f"198.51.100.{number}", times=5)
    assert tried == ACCOUNT_LIMIT.amount
    assert await door.guess("203.0.113.9") == 0
    assert await door.guess(HOME) == 1


async def test_at_home_as_many_guesses_as_elsewhere(door: Door) -> None:
    await door.throttle.succeeded("demo", "u-ada", HOME)
    assert await door.guess(HOME, times=50) == PAIR_LIMIT.amount


async def test_one_address_does_not_try_many_accounts(door: Door) -> None:
    tried = 0
    for number in range(300):
        tried += await door.guess(HOME, f"customer-{number}@example.org")
    assert tried == NETWORK_LIMIT.amount


async def test_a_subscriber_of_ipv6_is_one_address(door: Door) -> None:
    tried = 0
    for number in range(30):
        tried += await door.guess(f"2001:db8:1:2::{number:x}")
    assert tried == PAIR_LIMIT.amount
    assert await door.guess("2001:db8:1:3::1") == 1


async def test_an_unknown_account_is_counted_as_a_known_one(door: Door) -> None:
    for account in ("ada@example.org", "nobody@example.org"):
        assert await door.guess(HOME, account, times=20) == PAIR_LIMIT.amount


async def test_case_is_no_way_around_it(door: Door) -> None:
    assert await door.guess(HOME, "ADA@example.org", times=10) == 10
    assert await door.guess(HOME, "ada@EXAMPLE.org") == 0


async def test_nothing_is_looked_up_while_there_is_room(door: Door) -> None:
    await door.guess(HOME, times=20)
    assert door.known.asked == 0
