"""Two hundred orders while everything they depend on dies, restarts, lies and hangs: none is lost."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial

import aiohttp
import pytest

from orderplane.cli.backends import open_backends
from orderplane.dev.demo.mix import Case, Story, mix
from orderplane.dev.demo.products import MERCHANT, RECOUNTED, seed
from orderplane.dev.demo.shop import Placed, Shop
from orderplane.dev.localplane.plane import Plane
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.postgres.inventory import StockConflict, recount

from .conftest import alarms_of, story_of, verdict_of

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

ORDERS = 200
VICTIMS = 6
"""So many of them want what a recount finds missing; whether one has left by then is up to chance."""
KILLS = 12
RATE = 4.0
"""Orders a second, so that they are being placed for as long as the trouble lasts."""
RECOVERY_SECONDS = 240.0


@dataclass
class Mischief:
    """Everything that goes wrong, each at a moment drawn from the seed."""

    plane: Plane
    rng: random.Random
    done: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """The operator dies again and again, Kafka is away for long, and one thing after the other breaks."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._kill_operator())
            group.create_task(self._stop_kafka())
            group.create_task(self._break_the_rest())

    async def _kill_operator(self) -> None:
        for _ in range(KILLS):
            await asyncio.sleep(self.rng.uniform(1.0, 5.0))
            # One that has not come back yet cannot be killed again.
            await self.plane.supervisor.wait_ready("operator")
            await asyncio.sleep(self.rng.uniform(0.0, 0.5))
            await self.plane.supervisor.kill("operator")
            self.done.append("kill operator")

    async def _break_the_rest(self) -> None:
        troubles: list[Callable[[], Awaitable[None]]] = [
            self._restart_apiserver, self._restart_postgres, self._count_the_shelf,
            partial(self._fault, "payments", "error500"),
            partial(self._fault, "payments", "hang"),
            partial(self._fault, "carrier", "error500"),
            *(partial(self._kill, name) for name in ("etcd", "gateway", "relay", "payments", "carrier")),
            *(partial(self._kill, name) for name in ("notifier", "mail", "sms")),
        ]  # fmt: skip
        self.rng.shuffle(troubles)
        for trouble in troubles:
            await asyncio.sleep(self.rng.uniform(0.5, 3.0))
            await trouble()

    async def _kill(self, name: str) -> None:
        await self.plane.supervisor.kill(name)
        await self.plane.supervisor.wait_ready(name)
        self.done.append(f"kill {name}")

    async def _restart_apiserver(self) -> None:
        await self.plane.supervisor.restart("kube-apiserver")
        self.done.append("restart kube-apiserver")

    async def _restart_postgres(self) -> None:
        await self.plane.supervisor.restart("postgres")
        self.done.append("restart postgres")

    async def _stop_kafka(self) -> None:
        await asyncio.sleep(self.rng.uniform(0.5, 20.0))
        await self.plane.supervisor.stop("kafka")
        await asyncio.sleep(20)
        await self.plane.supervisor.start("kafka")
        self.done.append("stop kafka for 20 s")

    async def _count_the_shelf(self) -> None:
        async with open_backends(self.plane.env("admin")) as backends:
            for _ in range(50):
                try:
                    await recount(backends.pool, MERCHANT, RECOUNTED, 1, note="one is left")
                    break
                except (Transient, StockConflict):
                    await asyncio.sleep(0.2)
        self.done.append("recount")

    async def _fault(self, provider: str, mode: str) -> None:
        seconds = self.rng.uniform(3, 6)
        faults = {
            "mode": mode,
            "seconds": seconds,
            "share": self.rng.choice([0.3, 0.6, 1.0]),
            "seed": self.rng.randrange(1000),
            "after_effect": self.rng.random() < 0.5,
        }
        key = self.plane.env("operator")[f"ORDERPLANE_{provider.upper()}_KEY"]
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            aiohttp.ClientSession(self.plane.url(provider), headers=headers) as http,
            http.post("/_sandbox/faults", json=faults) as answer,
        ):
            assert answer.status == 200, await answer.text()
        await asyncio.sleep(seconds)
        self.done.append(f"{provider} {mode} {faults}")


def cases_of(number: int) -> list[Case]:
    """The demo's mix; those who want the recounted goods are spread among the rest."""
    rng = random.Random(number)
    shares = {story: 1 for story in Story if story is not Story.RECOUNTED}
    shares[Story.GOOD] = 12
    cases = mix(ORDERS - VICTIMS, number, stories=shares)
    for victim in mix(VICTIMS, number + 1, stories={Story.RECOUNTED: 1}):
        case = replace(victim, story=Story.GOOD, end="Delivered", reason=None, number=1000 + victim.number)
        cases.insert(rng.randrange(len(cases)), case)
    return cases


def is_right(placed: Placed) -> bool:
    """It ended as its input calls for; a recount may have come before or after a victim left the house."""
    if placed.case.body["items"][0]["sku"] == RECOUNTED:
        return placed.phase == "Delivered" or (
            placed.phase == "Failed" and placed.reason in ("StockLost", "OutOfStock")
        )
    return placed.is_as_expected


@pytest.mark.timeout(600)
async def test_every_order_ends_as_its_input_calls_for(own_plane: Plane, chaos_seed: int) -> None:
    mischief = Mischief(own_plane, random.Random(chaos_seed))
    async with open_backends(own_plane.env("admin")) as backends:
        await seed(backends.pool)
        shop = Shop(own_plane.url("gateway"), backends.api, backends.pool, rate=RATE)
        async with asyncio.TaskGroup() as group:
            group.create_task(shop.place_all(cases_of(chaos_seed)))
            trouble = group.create_task(mischief.run())
            await trouble
            is_over = await shop.watch(RECOVERY_SECONDS, lambda: None)
            assert is_over, f"{shop.phases()} after {mischief.done}\n" + story_of(
                [p for p in shop.placed if not p.is_finished]
            )
    assert mischief.done.count("kill operator") == KILLS
    wrong = [placed for placed in shop.placed if not is_right(placed)]
    assert not wrong, f"{mischief.done}\n{story_of(wrong)}\n{alarms_of(own_plane)[:5]}"
    verdict = await verdict_of(own_plane)
    assert verdict.is_clean, verdict.violations
    assert not verdict.open
    assert not alarms_of(own_plane)
