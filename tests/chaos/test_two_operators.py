"""Two operators at once, as in every rolling update: the gate lets each effect happen once."""

import asyncio
import random
from dataclasses import replace

import pytest

from orderplane.cli.backends import open_backends
from orderplane.dev.demo.command import TEMPO
from orderplane.dev.demo.mix import Story, mix
from orderplane.dev.demo.products import seed
from orderplane.dev.demo.shop import Shop
from orderplane.dev.localplane.components import process
from orderplane.dev.localplane.plane import Plane
from orderplane.dev.localplane.ports import free_port

from .conftest import alarms_of, story_of, verdict_of

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

ORDERS = 80


async def start_second(plane: Plane) -> None:
    """The same program with the same rights, beside the first."""
    env = {**plane.env("operator"), **TEMPO["operator"]}
    component = process("operator", env, http_port=free_port(), metrics_port=free_port(), state=plane.state)
    await plane.supervisor.start(replace(component, name="operator-2"))


@pytest.mark.timeout(400)
async def test_two_operators_do_everything_once(own_plane: Plane, chaos_seed: int) -> None:
    rng = random.Random(chaos_seed)
    await start_second(own_plane)
    shares = {story: 1 for story in Story if story is not Story.RECOUNTED}
    shares[Story.GOOD] = 8
    shares[Story.CANCELLED] = 4
    async with open_backends(own_plane.env("admin")) as backends:
        await seed(backends.pool)
        shop = Shop(own_plane.url("gateway"), backends.api, backends.pool, rate=10.0)
        async with asyncio.TaskGroup() as group:
            group.create_task(shop.place_all(mix(ORDERS, chaos_seed, stories=shares)))
            # One is replaced by the other, again and again, with no moment at which only one is at work.
            for name in ("operator", "operator-2", "operator"):
                await asyncio.sleep(rng.uniform(0.5, 2.0))
                await own_plane.supervisor.restart(name)
            is_over = await shop.watch(120, lambda: None)
            assert is_over, story_of([p for p in shop.placed if not p.is_finished])
    wrong = [placed for placed in shop.placed if not placed.is_as_expected]
    assert not wrong, f"{story_of(wrong)}\n{alarms_of(own_plane)[:5]}"
    verdict = await verdict_of(own_plane)
    assert verdict.is_clean, verdict.violations
    assert not verdict.open
    assert not alarms_of(own_plane)
