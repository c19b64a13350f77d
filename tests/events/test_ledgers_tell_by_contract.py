"""What the real ledgers write is what the schemas promise, for every type."""

import json
import secrets
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from importlib import resources
from uuid import uuid4

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from orderplane.adapters.postgres.gates import PostgresGates
from orderplane.adapters.postgres.parcels import PostgresParcels
from orderplane.adapters.postgres.payments import PostgresPayments
from orderplane.adapters.postgres.pool import open_pool, transaction
from orderplane.adapters.postgres.recount import recount
from orderplane.adapters.postgres.stock import PostgresStock
from orderplane.controllers.gate import Whereabouts
from orderplane.controllers.payment.ports import RefundState
from orderplane.controllers.shipment.ports import Label, VoidState
from orderplane.crds.order import Item, Order
from orderplane.events.types import EventType

pytestmark = pytest.mark.integration

ITEMS = [Item(sku="TEA", quantity=2)]
TOTAL = 1790
LABEL = Label("94001000", "trk_1", "https://track.example/94001000", "USPS", "Priority", 490, "EUR")


class Ledgers:
    def __init__(self, pool, merchant):
        self.pool, self.merchant = pool, merchant
        self.gates, self.stock = PostgresGates(pool), PostgresStock(pool)
        self.payments, self.parcels = PostgresPayments(pool), PostgresParcels(pool)

    async def opened(self):
        uid = str(uuid4())
        order = Order.model_validate(
            {
                "apiVersion": "orderplane.dev/v1alpha1",
                "kind": "Order",
                "metadata": {
                    "name": f"order-{uid[:8]}", "namespace": self.merchant, "uid": uid,
                    "resourceVersion": "1", "creationTimestamp": "2026-03-01T12:00:00Z",
                },
                "spec": {
                    "customer": "c-1001",
                    "items": [{"sku": "TEA", "quantity": 2}],
                    "quote": {
                        "currency": "EUR",
                        "lines": [{"sku": "TEA", "quantity": 2, "unitAmount": 650, "weightGrams": 120}],
                        "amounts": {
                            "items": 1300, "shipping": 490, "tax": 0, "discount": 0, "total": TOTAL,
                        },
                    },
                    "address": {
                        "name": "A", "line1": "B", "city": "C", "postalCode": "10115", "country": "DE",
                    },
                    "paymentMethod": "pm_card_visa",
                    "cancel": False,
                },
            }
        )  # fmt: skip
        await self.gates.open(order)
        return uid

    async def held(self, *, alone=False, minutes=15):
        uid = str(uuid4()) if alone else await self.opened()
        await self.stock.hold(
            self.merchant, uid, order_uid=None if alone else uid, name=f"stock-{uid[:8]}", items=ITEMS,
            expires_at=datetime.now(UTC) + timedelta(minutes=minutes), traceparent=None,
        )  # fmt: skip
        return uid

    async def intended(self):
        uid = await self.held()
        await self.payments.intend(
            self.merchant, uid, name=f"pay-{uid[:8]}", amount=TOTAL, currency="EUR", method="pm_card_visa"
        )
        return uid

    async def paid(self):
        uid = await self.intended()
        await self.payments.begin_confirm(self.merchant, uid, f"pi_{uid[:8]}", 1)
        await self.payments.capture(self.merchant, uid, TOTAL)
        return uid

    async def shipped(self):
        uid = await self.paid()
        await self.parcels.intend(self.merchant, uid, name=f"ship-{uid[:8]}")
        now = datetime.now(UTC)
        await self.parcels.begin_buy(
            self.merchant, uid, provider_id=f"shp_{uid[:8]}", rate_id="rate_1", now=now
        )
        await self.parcels.record_label(self.merchant, uid, LABEL, now)
        return uid

    async def undone(self, uid, *, is_cancel):
        """Undo whatever there is, as the finalizers do."""
        await self.gates.undo(
            self.merchant, uid, reason="CancelRequested", message="Called off.", is_cancel=is_cancel
        )
        parcel = await self.parcels.read(self.merchant, uid)
        if parcel is not None:
            await self.parcels.record_void(self.merchant, uid, VoidState.SUBMITTED)
        payment = await self.payments.read(self.merchant, uid)
        if payment is not None and payment.captured:
            entry = await self.payments.request_refund(self.merchant, uid)
            await self.payments.record_refund(
                self.merchant, uid, entry.refunds[0].id, provider_id=f"re_{uid[:8]}",
                state=RefundState.SUCCEEDED, reason=None,
            )  # fmt: skip
        elif payment is not None:
            await self.payments.cancel(self.merchant, uid)
        await self.stock.release(self.merchant, uid)
        await self.gates.seal(self.merchant, uid)


@pytest.fixture
async def ledgers(plane):
    merchant = f"contract-{secrets.token_hex(4)}"
    pool = await open_pool(plane.postgres_dsn, size=2)
    async with transaction(pool) as connection:
        await connection.execute(
            "INSERT INTO stock (merchant, sku, opening, on_hand) VALUES ($1, 'TEA', 100, 100)", merchant
        )
    yield Ledgers(pool, merchant)
    await pool.close()


async def test_each_event_of_the_ledgers_is_valid(ledgers):
    delivered = await ledgers.shipped()
    await ledgers.parcels.record_whereabouts(ledgers.merchant, delivered, Whereabouts.DELIVERED)
    await ledgers.undone(await ledgers.shipped(), is_cancel=True)
    await ledgers.undone(await ledgers.intended(), is_cancel=False)
    declined = await ledgers.intended()
    await ledgers.payments.decline(ledgers.merchant, declined, "CardDeclined", "The card was declined.")
    await ledgers.undone(declined, is_cancel=False)
    expired = await ledgers.held(alone=True, minutes=-1)
    await ledgers.stock.expire(ledgers.merchant, expired, datetime.now(UTC))
    await ledgers.held()
    await recount(ledgers.pool, ledgers.merchant, "TEA", 0, note="burnt")

    schemas = {
        file.name.removesuffix(".json"): json.loads(file.read_text(encoding="utf-8"))
        for file in (resources.files("orderplane.events") / "schemas").iterdir()
        if file.name.endswith(".json")
    }
    registry = Registry().with_resources((s["$id"], Resource.from_contents(s)) for s in schemas.values())
    seen = defaultdict(set)
    async with transaction(ledgers.pool) as connection:
        rows = await connection.fetch("SELECT * FROM history WHERE merchant = $1", ledgers.merchant)
    for row in rows:
        Draft202012Validator(
            schemas[row["type"]], registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER
        ).validate(row["data"])
        seen[row["type"]].add(row["data"].get("reason"))
    assert seen.keys() == {type_.value for type_ in EventType}
    assert seen["inventory.released"] == {"Released", "Expired", "Lost", "Returned"}
