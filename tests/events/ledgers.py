"""The PostgreSQL ledgers, brought through every effect that appends an event."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from orderplane.adapters.postgres.pool import open_pool
from orderplane.crds.order import Item, Order
from orderplane.ledgers.payments import ProviderRefundState, Withdrawal, WithdrawalKind
from orderplane.ledgers.postgres.gate import PostgresGateLedger
from orderplane.ledgers.postgres.inventory import recount
from orderplane.ledgers.postgres.payments import PostgresPaymentLedger
from orderplane.ledgers.postgres.refunds import PostgresRefundLedger
from orderplane.ledgers.postgres.session import transaction
from orderplane.ledgers.postgres.shipments import PostgresShipmentLedger
from orderplane.ledgers.postgres.stock import PostgresStockLedger
from orderplane.ledgers.refunds import NewRefund
from orderplane.ledgers.shipments import Label
from orderplane.ledgers.states import TrackingStatus, VoidState

ITEMS = [Item(sku="TEA", quantity=2)]
TOTAL = 1790
LABEL = Label("94001000", "trk_1", "https://track.example/94001000", "USPS", "Priority", 490, "EUR")


class Ledgers:
    def __init__(self, pool, merchant):
        self.pool, self.merchant = pool, merchant
        self.gates, self.stock = PostgresGateLedger(pool), PostgresStockLedger(pool)
        self.payments, self.parcels = PostgresPaymentLedger(pool), PostgresShipmentLedger(pool)
        self.refunds = PostgresRefundLedger(pool)

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
        await self.payments.begin_confirm(self.merchant, uid, f"pi_{uid[:8]}", 1, operator="op")
        await self.payments.capture(self.merchant, uid, TOTAL)
        return uid

    async def shipped(self):
        uid = await self.paid()
        await self.parcels.intend(self.merchant, uid, name=f"ship-{uid[:8]}")
        await self.parcels.begin_buy(
            self.merchant, uid, provider_id=f"shp_{uid[:8]}", rate_id="rate_1", attempt=1, operator="op"
        )
        await self.parcels.record_label(self.merchant, uid, LABEL, first_poll=timedelta())
        return uid

    async def compensated(self, uid, *, is_cancel, elsewhere=()):
        """Compensate an order, as the finalizers do; `elsewhere` left its payment at the provider."""
        await self.gates.record_retry(self.merchant, uid, request="1", actor="kubernetes:ada")
        await self.gates.compensate(
            self.merchant, uid, reason="CancelRequested", message="Called off.", is_cancel=is_cancel,
            actor="user:u-1",
        )  # fmt: skip
        parcel = await self.parcels.read(self.merchant, uid)
        if parcel is not None:
            await self.parcels.record_void(self.merchant, uid, VoidState.SUBMITTED)
        payment = await self.payments.read(self.merchant, uid)
        if payment is not None and payment.captured:
            entry = await self.payments.request_refund(self.merchant, uid)
            await self.payments.record_withdrawals(self.merchant, uid, elsewhere)
            await self.payments.record_refund(
                self.merchant, uid, entry.refunds[0].id, attempt=1, provider_id=f"re_{uid[:8]}",
                state=ProviderRefundState.SUCCEEDED, reason=None,
            )  # fmt: skip
        elif payment is not None:
            await self.payments.cancel(self.merchant, uid, intent_id=payment.intent_id)
        await self.stock.release(self.merchant, uid)
        await self.gates.seal(self.merchant, uid)

    async def live(self):
        """Cause every type of event; returns the history."""
        delivered = await self.shipped()
        await self.parcels.record_tracking_status(self.merchant, delivered, TrackingStatus.DELIVERED)
        await self.refunds.request(
            self.merchant, delivered, NewRefund("sorry", "Goodwill", 100, actor="user:u-1")
        )
        await self.refunds.request(
            self.merchant, delivered, NewRefund("returned", "Returned", 650, {"TEA": 1}, is_restocked=True)
        )
        returned = await self.shipped()
        await self.parcels.record_tracking_status(self.merchant, returned, TrackingStatus.RETURNED)
        await self.refunds.request(self.merchant, returned, NewRefund("all", "Returned", is_restocked=True))
        await self.compensated(await self.shipped(), is_cancel=True)
        elsewhere = [
            Withdrawal(f"re_{self.merchant}", WithdrawalKind.REFUND, 100),
            Withdrawal(f"du_{self.merchant}", WithdrawalKind.DISPUTE, 200),
        ]
        await self.compensated(await self.paid(), is_cancel=True, elsewhere=elsewhere)
        await self.compensated(await self.intended(), is_cancel=False)
        declined = await self.intended()
        await self.payments.decline(self.merchant, declined, "CardDeclined", "The card was declined.")
        await self.compensated(declined, is_cancel=False)
        expired = await self.held(alone=True, minutes=-1)
        await self.stock.expire(self.merchant, expired)
        await self.held()
        await recount(self.pool, self.merchant, "TEA", 0, note="burnt")
        async with transaction(self.pool) as connection:
            return await connection.fetch("SELECT * FROM history WHERE merchant = $1", self.merchant)


@asynccontextmanager
async def open_ledgers(dsn: str) -> AsyncIterator[Ledgers]:
    """Those of a new merchant with stock."""
    merchant = f"contract-{secrets.token_hex(4)}"
    pool = await open_pool(dsn, size=2)
    try:
        async with transaction(pool) as connection:
            await connection.execute(
                "INSERT INTO stock (merchant, sku, opening, on_hand) VALUES ($1, 'TEA', 100, 100)", merchant
            )
        yield Ledgers(pool, merchant)
    finally:
        await pool.close()
