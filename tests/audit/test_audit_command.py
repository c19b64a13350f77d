"""`orderplane audit` on a plane of its own, because what is spoiled here cannot be mended."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from orderplane.cli.backends import Backends, open_backends
from orderplane.dev.demo.mix import Story, mix
from orderplane.dev.demo.products import seed
from orderplane.dev.demo.shop import Shop
from orderplane.dev.localplane.plane import Plane, PlaneSpec, remove
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.ledgers.postgres.census import take_census
from orderplane.ledgers.postgres.session import session

from ..support.plane import TEMPO

pytestmark = [pytest.mark.integration, pytest.mark.timeout(280)]

STORIES = {Story.GOOD: 3, Story.DECLINED: 1, Story.ADDRESS_REFUSED: 1, Story.OUT_OF_STOCK: 1}


@pytest.fixture(scope="module")
async def sold(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Plane, Backends]]:
    """A plane on which six orders came to their ends."""
    state = tmp_path_factory.mktemp("spoiled")
    try:
        async with (
            Plane.start(state, PlaneSpec(env=TEMPO), ConsoleProgress()) as plane,
            open_backends(plane.env("admin")) as backends,
        ):
            await seed(backends.pool)
            shop = Shop(plane.url("gateway"), backends.api, backends.pool)
            async with asyncio.TaskGroup() as group:
                group.create_task(shop.place_all(mix(6, 1, stories=STORIES)))
                assert await shop.watch(120, lambda: None), shop.phases()
            yield plane, backends
    finally:
        remove(state)


async def audited(plane: Plane, *options: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the verdict of the real command."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orderplane.cli.main", "audit", "--json", *options,
        env={**os.environ, **plane.env("audit")},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode is not None
    return process.returncode, json.loads(out)


async def violations(plane: Plane) -> set[tuple[str, str]]:
    code, verdict = await audited(plane, "--record")
    found = {(violation["invariant"], violation["subject"]) for violation in verdict["violations"]}
    assert (code, verdict["clean"]) == ((1, False) if found else (0, True))
    return found


async def test_it_is_clean_until_somebody_meddles(sold: tuple[Plane, Backends]) -> None:
    plane, backends = sold
    code, verdict = await audited(plane)
    assert (code, verdict["violations"], verdict["open"]) == (0, [], [])
    assert verdict["counts"]["orders"] == 6
    assert verdict["counts"]["messages"] == verdict["counts"]["events"] > 20

    # Somebody corrects the shelf with SQL instead of a recount.
    sku = "TEA-SENCHA-100"
    async with session(backends.pool) as connection:
        await connection.execute("UPDATE stock SET on_hand = on_hand - 5 WHERE sku = $1", sku)
    expected = {("stock-balance", f"demo/{sku}")}
    assert await violations(plane) == expected
    recorded = (await take_census(backends.pool)).audit
    assert recorded is not None
    assert recorded.violations == 1, "the operator exports what --record has kept"

    # Somebody charges past the ledger; without a charge an intent is harmless.
    stray = await backends.payment_provider.create_intent(
        key="stray/create", amount=700, currency="EUR", method="pm_card_visa", merchant="demo",
        reference="nobody",
    )  # fmt: skip
    assert await violations(plane) == expected
    await backends.payment_provider.confirm(stray.id, key="stray/confirm")
    expected |= {("intent-unknown", stray.id)}
    assert await violations(plane) == expected

    # Somebody else writes into a topic, without any of the headers.
    producer = AIOKafkaProducer(bootstrap_servers=plane.kafka_bootstrap)
    await producer.start()
    try:
        forged = [("ce_id", b"forged"), ("ce_sequence", b"\xff\xfe")]
        await producer.send_and_wait("order.shipped", b"\xff", key=b"\xff", headers=forged)
    finally:
        await producer.stop()
    expected |= {("message-unknown", "forged")}
    assert await violations(plane) == expected
