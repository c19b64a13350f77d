"""On the whole plane: orders complete while nothing can be sent, and all messages are sent afterwards."""

import asyncio

import pytest

from orderplane.audit.verdict import audit
from orderplane.cli.backends import open_backends
from orderplane.dev.demo.messages import collect_messages
from orderplane.dev.demo.mix import Story, mix
from orderplane.dev.demo.products import seed
from orderplane.dev.demo.shop import Shop
from orderplane.dev.localplane.plane import Plane

pytestmark = [pytest.mark.integration, pytest.mark.timeout(280)]

STORIES = {Story.GOOD: 4, Story.DECLINED: 1, Story.ADDRESS_REFUSED: 1, Story.CANCELLED: 1}


async def test_orders_complete_while_no_message_can_be_sent(running: Plane) -> None:
    async with open_backends(running.env("admin")) as backends:
        await seed(backends.pool)
        shop = Shop(running.url("gateway"), backends.api, backends.pool)
        await shop.open()
        await running.supervisor.stop("mail")
        await running.supervisor.stop("sms")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(shop.place_all(mix(12, 5, stories=STORIES)))
                assert await shop.watch(150, lambda: None), shop.phases()
            assert [placed for placed in shop.placed if not placed.is_as_expected] == []
        finally:
            await running.supervisor.start("mail")
            await running.supervisor.start("sms")
        messages = await collect_messages(backends.pool, backends.channels, seconds=60)
        assert (messages.missing, messages.repeated) == ((), ())
        assert messages.arrived["email"]["order.created"] > 0
        assert messages.arrived["sms"]["order.shipped"] > 0
        verdict = await audit(backends.snapshot)
        assert verdict.is_clean, verdict.violations
