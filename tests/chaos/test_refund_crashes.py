"""The operator is killed at each step of a refund after the sale: it is made once, and told once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from orderplane.dev.localplane.plane import Plane
from orderplane.events.notifications import Channel
from orderplane.gateway.principal import Role
from orderplane.ledgers.postgres.session import transaction

from ..saga.conftest import MUG, OPENING, Desk, conditions_of
from ..saga.sales import Shop, sold
from ..support.plane import merchant_on
from .conftest import alarms_of, chaos_plane, frozen, verdict_of

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

Step = Callable[[Shop], Awaitable[None]]


@pytest.fixture(scope="module", name="own_plane")
async def plane_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    async with chaos_plane(tmp_path_factory.mktemp("refunds")) as plane:
        yield plane
        verdict = await verdict_of(plane)
        assert verdict.is_clean, verdict.violations
        assert not verdict.open
        assert not alarms_of(plane)


@pytest.fixture
async def desk(own_plane: Plane) -> AsyncIterator[Desk]:
    async with merchant_on(own_plane) as merchant:
        yield Desk(merchant)


@pytest.fixture
async def http(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    headers = (await desk.merchant.caller(Role.MERCHANT)).headers
    async with httpx.AsyncClient(base_url=desk.plane.url("gateway"), headers=headers, timeout=30) as opened:
        yield opened


async def after_it_was_asked_for(shop: Shop) -> None:
    with frozen(shop.desk.plane, "operator"):
        await shop.refund("it", restock=True)
        await kill(shop)


async def while_the_provider_is_asked_what_has_left(shop: Shop) -> None:
    await shop.desk.sandbox("payments", "faults", {"mode": "hang", "seconds": 120})
    await shop.refund("it", restock=True)
    await shop.desk.until(
        shop.order, lambda o: any(c["reason"] == "PaymentsUnclear" for c in o["status"]["conditions"])
    )
    await kill(shop)
    await shop.desk.sandbox("payments", "faults", {"mode": "ok"})


async def before_it_was_recorded(shop: Shop) -> None:
    """The provider has made it. The ledger cannot be written meanwhile, only read."""
    async with transaction(shop.desk.pool) as connection:
        with frozen(shop.desk.plane, "operator"):
            await shop.refund("it", restock=True)
            await connection.execute("LOCK TABLE refunds IN SHARE MODE")
        while not await shop.desk.refunds(shop.order):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)
        await kill(shop)


async def before_it_was_told(shop: Shop) -> None:
    await shop.refund("it", restock=True)
    await shop.desk.until_row(
        "SELECT 1 FROM history WHERE merchant = $1 AND subject = $2 AND type = 'payment.refunded'",
        shop.order["metadata"]["uid"],
    )
    await kill(shop)


async def kill(shop: Shop) -> None:
    await shop.desk.plane.supervisor.kill("operator")


@pytest.mark.parametrize(
    ("step", "method"),
    [
        (after_it_was_asked_for, "pm_card_visa"),
        (while_the_provider_is_asked_what_has_left, "pm_card_visa"),
        (before_it_was_recorded, "pm_card_visa"),
        # It succeeds a second later: what is recorded first is that the provider works on it.
        (before_it_was_recorded, "pm_sandbox_refundPending"),
        (before_it_was_told, "pm_card_visa"),
    ],
)
@pytest.mark.timeout(120)
async def test_it_is_made_once_and_told_once(
    desk: Desk, http: httpx.AsyncClient, step: Step, method: str
) -> None:
    customer = await desk.merchant.caller(Role.CUSTOMER)
    shop = await sold(desk, http, customer=customer.id, paymentMethod=method)
    async with asyncio.timeout(60):
        await step(shop)
    (refund,) = await shop.settled()
    assert (refund["phase"], refund["amount"]) == ("Refunded", shop.total)
    assert await shop.back() == [shop.total]
    await desk.until(shop.order, lambda o: conditions_of(o)["Paid"] == ("False", "Refunded"))
    assert await desk.stock(MUG) == (OPENING, 0)
    assert (await desk.history(shop.order))[-2:] == ["refund.requested", "payment.refunded"]
    uid = shop.order["metadata"]["uid"]
    await desk.until_row(
        "SELECT 1 FROM notifications WHERE merchant = $1 AND order_uid = $2 AND type = 'payment.refunded' "
        "AND channel = 'email' AND state = 'Sent'",
        uid,
    )
    (told,) = await desk.rows(
        "SELECT event_id FROM history WHERE merchant = $1 AND subject = $2 AND type = 'payment.refunded'", uid
    )
    mailbox = desk.backends.channels[Channel.EMAIL]
    assert [mail async for mail in mailbox.references()].count(str(told["event_id"])) == 1
