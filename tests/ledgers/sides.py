"""The two implementations of the ledgers, driven by the same steps."""

from collections.abc import Coroutine
from dataclasses import asdict, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from orderplane.crds.order import Item, Order
from orderplane.ledgers.archive import ArchivedOrder, archived_order
from orderplane.ledgers.errors import GateClosed, NothingToSettle, Refused, Transient
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.model.archive import InMemoryOrderArchive
from orderplane.ledgers.model.gate import InMemoryGateLedger
from orderplane.ledgers.model.payments import InMemoryPaymentLedger
from orderplane.ledgers.model.refunds import InMemoryRefundLedger
from orderplane.ledgers.model.shipments import InMemoryShipmentLedger
from orderplane.ledgers.model.stock import InMemoryStockLedger
from orderplane.ledgers.model.tables import Tables
from orderplane.ledgers.payments import ProviderRefundState, Withdrawal, WithdrawalKind
from orderplane.ledgers.postgres.archive import PostgresOrderArchive
from orderplane.ledgers.postgres.gate import PostgresGateLedger
from orderplane.ledgers.postgres.inventory import recount
from orderplane.ledgers.postgres.payments import PostgresPaymentLedger
from orderplane.ledgers.postgres.refunds import PostgresRefundLedger
from orderplane.ledgers.postgres.session import Pool, session
from orderplane.ledgers.postgres.settlement import (
    settle_refund_by_hand,
    settle_return_by_hand,
    settle_void_by_hand,
)
from orderplane.ledgers.postgres.shipments import PostgresShipmentLedger
from orderplane.ledgers.postgres.stock import PostgresStockLedger
from orderplane.ledgers.refunds import NewRefund
from orderplane.ledgers.shipments import Label
from orderplane.ledgers.states import TrackingStatus, VoidState

OPENING = 5
TOTAL = 1790
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = timedelta(minutes=5)
LABEL = Label("94001000", "trk_1", "https://track.example/94001000", "USPS", "Priority", 490, "EUR")
REFUNDS = {
    "ask_part": NewRefund("part", "Goodwill", 400),
    "ask_all": NewRefund("all", "Returned", is_restocked=True),
    "ask_beyond": NewRefund("beyond", "Damaged", TOTAL + 1),
    "ask_line": NewRefund("line", "Damaged", 650, {"TEA": 1}, is_restocked=True),
    "ask_odd": NewRefund("odd", "Damaged", 650, {"GONE": 1}),
}
# Words for people, and the clock of the database, are each side's own.
WORDS = (
    "message",
    "reservation_message",
    "payment_message",
    "shipment_message",
    "finished_at",
    "expires_at",
    "left",
    "id",
    "buy_age",
    "confirm_age",
    "created_at",
)


def order_of(merchant: str, uid: str) -> Order:
    return Order.model_validate(
        {
            "apiVersion": "orderplane.dev/v1alpha1",
            "kind": "Order",
            "metadata": {
                "name": f"order-{uid[:8]}", "namespace": merchant, "uid": uid,
                "resourceVersion": "1", "creationTimestamp": "2026-03-01T12:00:00Z",
            },
            "spec": {
                "customer": "c-1001",
                "items": [{"sku": "TEA", "quantity": 2}],
                "quote": {
                    "currency": "EUR",
                    "lines": [{"sku": "TEA", "quantity": 2, "unitAmount": 650, "weightGrams": 120}],
                    "amounts": {"items": 1300, "shipping": 490, "tax": 0, "discount": 0, "total": TOTAL},
                },
                "address": {
                    "name": "A", "line1": "B", "city": "C", "postalCode": "10115", "country": "DE",
                },
                "paymentMethod": "pm_card_visa",
                "cancel": False,
            },
        }
    )  # fmt: skip


def archived(order: Order, gate: Gate, version: int) -> ArchivedOrder:
    """A row of the archive, with the state of the gate as its phase."""
    document = order.model_dump(mode="json", by_alias=True, exclude_none=True)
    document["metadata"]["resourceVersion"] = str(version)
    return archived_order(document, {"phase": gate.state.value})


async def no_pause(point: str) -> None:
    """Nothing else runs here."""


class Side:
    """One of the two: its ledgers, and how to look at what they wrote."""

    def __init__(
        self, gates: Any, stock: Any, payments: Any, parcels: Any, refunds: Any, archive: Any
    ) -> None:
        self.gates, self.stock, self.payments, self.parcels = gates, stock, payments, parcels
        self.refunds, self.archive = refunds, archive
        self.merchant = ""

    async def settle(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await work

    async def run_out(self, uid: str) -> None:
        """Let the time of a reservation be over."""

    async def recount(self, count: int) -> Any: ...
    async def settle_by_hand(self, uid: str) -> Any: ...
    async def settle_return(self, uid: str) -> Any: ...
    async def settle_void_by_hand(self, uid: str) -> Any: ...
    async def shelf(self) -> tuple[int, int]: ...
    async def told(self, uid: str) -> list[str]: ...

    async def do(self, step: str, uid: str, count: int) -> Any:
        """Carry a step out and answer what a caller sees of it."""
        try:
            return seen(await self.settle(self._step(step, uid, count)))
        except GateClosed:
            return "GateClosed"
        except NothingToSettle:
            return "NothingToSettle"
        except (Refused, Transient) as verdict:
            return type(verdict).__name__, verdict.reason

    async def _step(self, step: str, uid: str, count: int) -> Any:
        m, payments, parcels = self.merchant, self.payments, self.parcels
        match step:
            case "open":
                return await self.gates.open(order_of(m, uid))
            case "compensate":
                return await self.gates.compensate(
                    m, uid, reason="OutOfStock", message="short", is_cancel=False
                )
            case "retry":
                return await self.gates.record_retry(m, uid, request=str(count), actor="kubernetes:ada")
            case "seal":
                return await self.gates.seal(m, uid)
            case "hold":
                return await self.stock.hold(
                    m, uid, order_uid=uid, name=f"order-{uid[:8]}-{uid[-8:]}",
                    items=[Item(sku="TEA", quantity=2)], expires_at=None, traceparent=None,
                )  # fmt: skip
            case "expire_early" | "expire_late" | "extend_early" | "extend_late":
                if step.endswith("late"):
                    await self.run_out(uid)
                act = self.stock.expire if step.startswith("expire") else self.stock.extend
                entry = await act(m, uid)
                return entry and (entry, entry.left > timedelta())
            case "release":
                return await self.stock.release(m, uid)
            case "recount":
                return await self.recount(count)
            case "intend_payment" | "wrong_amount":
                amount = TOTAL if step == "intend_payment" else TOTAL - 1
                name = f"order-{uid[:8]}-{uid[-8:]}"
                return await payments.intend(
                    m, uid, name=name, amount=amount, currency="EUR", method="pm_card_visa"
                )
            case "next_create_attempt":
                return await payments.next_create_attempt(m, uid, 1)
            case "record_intent":
                return await payments.record_intent(m, uid, f"pi_{uid[:8]}")
            case "begin_confirm":
                return await payments.begin_confirm(m, uid, f"pi_{uid[:8]}", count + 1, operator="op")
            case "capture":
                return await payments.capture(m, uid, TOTAL)
            case "decline":
                return await payments.decline(m, uid, "CardDeclined", "The card was declined.")
            case "cancel_payment":
                known = await payments.read(m, uid)
                return await payments.cancel(m, uid, intent_id=known.intent_id if known else None)
            case "cancel_unseen":
                return await payments.cancel(m, uid, intent_id=None)
            case "request_refund":
                return await payments.request_refund(m, uid)
            case "refund_pending" | "refund_succeeded" | "refund_failed":
                refunds = (await payments.read(m, uid)).refunds
                refund = refunds[-1]
                state = ProviderRefundState(step.removeprefix("refund_").capitalize())
                return await payments.record_refund(
                    m, uid, refund.id, attempt=refund.attempt, provider_id=f"re_{uid[:8]}-{len(refunds)}",
                    state=state, reason=None,
                )  # fmt: skip
            case "withdraw_part" | "withdraw_twice" | "withdraw_all":
                found = [Withdrawal(f"re_{uid[:8]}-other", WithdrawalKind.REFUND, 700)]
                if step != "withdraw_part":
                    more = TOTAL if step == "withdraw_all" else 90
                    found.append(Withdrawal(f"du_{uid[:8]}", WithdrawalKind.DISPUTE, more))
                return await payments.record_withdrawals(m, uid, found)
            case "next_refund":
                refund = (await payments.read(m, uid)).refunds[-1]
                return await payments.next_refund_attempt(m, uid, refund.id, refund.attempt)
            case "next_refund_late":
                refund = (await payments.read(m, uid)).refunds[-1]
                return await payments.next_refund_attempt(m, uid, refund.id, refund.attempt - 1)
            case "refund_failed_late":
                refund = (await payments.read(m, uid)).refunds[-1]
                return await payments.record_refund(
                    m, uid, refund.id, attempt=refund.attempt - 1, provider_id=None,
                    state=ProviderRefundState.FAILED, reason=None,
                )  # fmt: skip
            case "ask_part" | "ask_all" | "ask_beyond" | "ask_line" | "ask_odd":
                return await self.refunds.request(m, uid, REFUNDS[step])
            case "asked":
                return await self.refunds.of_order(m, uid)
            case "archive" | "archive_older":
                gate = await self.gates.read(m, uid)
                version = 10 + gate.seq if step == "archive" else 5
                return await self.archive.store(archived(order_of(m, uid), gate, version), gate)
            case "archive_late":
                gate = await self.gates.read(m, uid)
                late = replace(gate, seq=gate.seq - 1)
                return await self.archive.store(archived(order_of(m, uid), gate, 100), late)
            case "outdated":
                found = await self.archive.outdated(m, f"order-{uid[:8]}")
                return [document["status"]["phase"] for document in found]
            case "intend_parcel":
                return await parcels.intend(m, uid, name=f"order-{uid[:8]}-{uid[-8:]}")
            case "begin_buy":
                return await parcels.begin_buy(
                    m, uid, provider_id=f"shp_{uid[:8]}", rate_id="r", attempt=count + 1, operator="op"
                )
            case "record_label":
                return await parcels.record_label(m, uid, LABEL, first_poll=timedelta())
            case "refuse_parcel":
                entry = await parcels.read(m, uid)
                return await parcels.refuse(
                    m, uid, "AddressRejected", "No such street.", look_again=LATER,
                    attempt=entry.buy_attempt if entry else 0, is_final=count % 2 == 0,
                )  # fmt: skip
            case "cancel_parcel":
                return await parcels.cancel(m, uid, look_again=LATER)
            case "settle_void_by_hand":
                return await self.settle_void_by_hand(uid)
            case "settle_return":
                return await self.settle_return(uid)
            case "settle_by_hand":
                return await self.settle_by_hand(uid)
            case step if step.startswith("void_"):
                return await parcels.record_void(m, uid, VoidState(step.removeprefix("void_")))
            case step if step.startswith("track_"):
                status = TrackingStatus(step.removeprefix("track_"))
                return await parcels.record_tracking_status(m, uid, status)
        raise AssertionError(step)

    async def look(self, uids: list[str]) -> Any:
        """Everything that can be seen of some orders."""
        return {
            "shelf": await self.shelf(),
            "orders": [
                (
                    seen(await self.settle(self.gates.read(self.merchant, uid))),
                    seen(await self.settle(self.refunds.of_order(self.merchant, uid))),
                    await self.told(uid),
                )
                for uid in uids
            ],
        }


class InMemory(Side):
    def __init__(self) -> None:
        self.tables = Tables(now=lambda: NOW, pause=no_pause)
        for table in (self.tables.on_hand, self.tables.opening):
            table["TEA"] = OPENING
        for table in (self.tables.reserved, self.tables.moved):
            table["TEA"] = 0
        super().__init__(
            InMemoryGateLedger(self.tables),
            InMemoryStockLedger(self.tables),
            InMemoryPaymentLedger(self.tables),
            InMemoryShipmentLedger(self.tables),
            InMemoryRefundLedger(self.tables),
            InMemoryOrderArchive(self.tables),
        )

    async def settle(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Go through without a stop where the scheduler of a simulated run would have its say."""
        try:
            while True:
                work.send(None)
        except StopIteration as end:
            return end.value

    async def run_out(self, uid: str) -> None:
        if (entry := self.tables.reservations.get(uid)) is not None:
            self.tables.reservations[uid] = replace(entry, expires_at=NOW)

    async def recount(self, count: int) -> Any:
        return [f"order-{uid[:8]}-{uid[-8:]}" for uid in self.stock.recount("TEA", count)]

    async def settle_by_hand(self, uid: str) -> Any:
        self.payments.settle_refund_by_hand(uid)

    async def settle_return(self, uid: str) -> Any:
        return self.parcels.settle_return_by_hand(uid)

    async def settle_void_by_hand(self, uid: str) -> Any:
        return self.parcels.settle_void_by_hand(uid)

    async def shelf(self) -> tuple[int, int]:
        return self.tables.on_hand["TEA"], self.tables.reserved["TEA"]

    async def told(self, uid: str) -> list[str]:
        return [type_ for type_, _ in self.tables.history.get(uid, [])]


class Postgres(Side):
    def __init__(self, pool: Pool) -> None:
        super().__init__(
            PostgresGateLedger(pool),
            PostgresStockLedger(pool),
            PostgresPaymentLedger(pool),
            PostgresShipmentLedger(pool),
            PostgresRefundLedger(pool),
            PostgresOrderArchive(pool),
        )
        self.pool = pool

    async def run_out(self, uid: str) -> None:
        async with session(self.pool) as connection:
            await connection.execute(
                "UPDATE reservations SET expires_at = now() WHERE merchant = $1 AND holder = $2",
                self.merchant, uid,
            )  # fmt: skip

    async def recount(self, count: int) -> Any:
        return list((await recount(self.pool, self.merchant, "TEA", count, note="counted")).lost)

    async def settle_by_hand(self, uid: str) -> Any:
        await settle_refund_by_hand(
            self.pool, self.merchant, f"order-{uid[:8]}", reason="paid back", reference="A. Person"
        )

    async def settle_return(self, uid: str) -> Any:
        return await settle_return_by_hand(
            self.pool, self.merchant, f"order-{uid[:8]}", reference="A. Person"
        )

    async def settle_void_by_hand(self, uid: str) -> Any:
        return await settle_void_by_hand(
            self.pool, self.merchant, f"order-{uid[:8]}", reason="torn up", reference="A. Person"
        )

    async def shelf(self) -> tuple[int, int]:
        async with session(self.pool) as connection:
            row = await connection.fetchrow(
                "SELECT on_hand, reserved FROM stock WHERE merchant = $1", self.merchant
            )
        return row["on_hand"], row["reserved"]

    async def told(self, uid: str) -> list[str]:
        async with session(self.pool) as connection:
            rows = await connection.fetch(
                "SELECT type FROM history WHERE merchant = $1 AND subject = $2 ORDER BY seq",
                self.merchant, uid,
            )  # fmt: skip
        return [row["type"] for row in rows]


def seen(answer: Any) -> Any:
    if is_dataclass(answer) and not isinstance(answer, type):
        return seen(asdict(answer))
    if isinstance(answer, dict):
        return {name: seen(value) for name, value in answer.items() if name not in WORDS}
    if isinstance(answer, (list, tuple)):
        return [seen(value) for value in answer]
    return answer
