"""Who is there: kept while changes are heard of, and no longer."""

from collections.abc import Sequence

from orderplane.gateway.identity.authentication import ALIVE_SECONDS, LOOK_SECONDS, AccountCache, Name
from orderplane.ledgers.errors import Transient

ADA = ("demo", "u-ada")


class AccountSource:
    """Accounts in memory, with what a database could do to whoever asks."""

    def __init__(self) -> None:
        self.roles: dict[Name, str] = {ADA: "customer"}
        self.news: list[Name] = []
        self.is_silent = False
        self.asked = 0

    async def role_of(self, merchant: str, name: str) -> str | None:
        self.asked += 1
        return self.roles.get((merchant, name))

    async def changed(self) -> Sequence[Name]:
        if self.is_silent:
            raise Transient("LedgerUnavailable", "no answer")
        return self.news


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def a_roll() -> tuple[AccountCache, AccountSource, Clock]:
    register, clock = AccountSource(), Clock()
    return AccountCache(register, clock), register, clock


async def test_who_is_known_is_not_asked_for_again_while_it_is_watched() -> None:
    roll, register, clock = a_roll()
    for _ in range(100):
        await roll.look()
        assert await roll.role_of(*ADA) == "customer"
        clock.now += LOOK_SECONDS
    assert register.asked == 1


async def test_nothing_is_kept_for_ever() -> None:
    roll, register, clock = a_roll()
    for _ in range(1000):
        await roll.look()
        await roll.role_of(*ADA)
        clock.now += LOOK_SECONDS
    assert 1 < register.asked < 5


async def test_who_has_gone_is_gone_with_the_next_look() -> None:
    roll, register, _ = a_roll()
    await roll.look()
    assert await roll.role_of(*ADA) == "customer"
    del register.roles[ADA]
    register.news = [ADA]
    await roll.look()
    assert await roll.role_of(*ADA) is None


async def test_who_was_read_before_and_kept_after_a_look_goes_with_the_one_after() -> None:
    """The look back is longer than the time between two looks, for exactly this."""
    roll, register, _ = a_roll()
    register.news = [ADA]
    await roll.look()
    assert await roll.role_of(*ADA) == "customer"
    del register.roles[ADA]
    await roll.look()
    assert await roll.role_of(*ADA) is None


async def test_without_having_looked_nothing_is_believed() -> None:
    roll, register, clock = a_roll()
    await roll.role_of(*ADA)
    await roll.role_of(*ADA)
    assert register.asked == 2
    await roll.look()
    register.is_silent = True
    clock.now += ALIVE_SECONDS + 0.1
    await roll.look()
    del register.roles[ADA]
    assert await roll.role_of(*ADA) is None
