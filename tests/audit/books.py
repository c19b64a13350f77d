"""The books of a shop in which everything is as it should be, as plain values that a test may spoil."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import orjson

from orderplane.audit.snapshot import Message, Snapshot
from orderplane.controllers.payment.ports import Dispute, DisputeState, Intent, IntentState, Refund
from orderplane.controllers.shipment.ports import CarrierShipment
from orderplane.crds.meta import Kind
from orderplane.events.notifications import Channel, message_reference
from orderplane.events.types import EventType, event_id
from orderplane.ledgers.payments import ProviderRefundState
from orderplane.ledgers.shipments import Label
from orderplane.ledgers.states import TrackingStatus, VoidState
from orderplane.workers.notifier.plan import CHANNELS

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SHOP, TEA, CUSTOMER = "shop", "TEA", "u-1"
OPENING, QUANTITY, TOTAL, ELSEWHERE = 100, 2, 2500, 1000
TABLES = (
    "orders", "archived_orders", "stock", "reservations", "reservation_lines", "stock_movements", "payments",
    "refunds",
    "refund_requests", "withdrawals", "retries", "shipments", "history", "idempotency", "notifications",
    "users", "account_messages", "webhook_endpoints", "event_deliveries",
)  # fmt: skip
_SPACE = UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")


def uid_of(name: str) -> UUID:
    return uuid5(_SPACE, name)


def refund_of(name: str) -> UUID:
    return uuid5(uid_of(name), "refund/1")


@dataclass(slots=True)
class Books:
    """All that the audit reads, changeable; lists of dicts where the snapshot has rows."""

    tables: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {name: [] for name in TABLES})
    resources: dict[Kind, list[dict[str, Any]]] = field(default_factory=lambda: {kind: [] for kind in Kind})
    intents: dict[str, Intent] = field(default_factory=dict)
    refunds: dict[str, Refund] = field(default_factory=dict)
    disputes: dict[str, Dispute] = field(default_factory=dict)
    parcels: dict[str, CarrierShipment] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    outgoing: dict[Channel, list[str]] = field(default_factory=lambda: {channel: [] for channel in Channel})

    def snapshot(self) -> Snapshot:
        return Snapshot(
            NOW, self.tables, self.resources, tuple(self.intents.values()), tuple(self.refunds.values()),
            tuple(self.disputes.values()), tuple(self.parcels.values()), tuple(self.messages), self.outgoing,
        )  # fmt: skip

    def row(self, table: str, name: str) -> dict[str, Any]:
        """The one row of a table about an order."""
        column = {
            "orders": "uid",
            "archived_orders": "uid",
            "reservations": "holder",
            "reservation_lines": "holder",
        }.get(table, "order_uid")
        (found,) = (row for row in self.tables[table] if row[column] == uid_of(name))
        return found

    def told(self, name: str, type_: EventType) -> dict[str, Any]:
        """The history row of an order's event."""
        (found,) = (
            row for row in self.tables["history"] if row["subject"] == uid_of(name) and row["type"] == type_
        )
        return found

    def notice(self, name: str, type_: EventType, channel: Channel) -> dict[str, Any]:
        """The row of what a customer was told of an order's event."""
        id_ = self.told(name, type_)["event_id"]
        (found,) = (
            row
            for row in self.tables["notifications"]
            if row["event_id"] == id_ and row["channel"] == channel
        )
        return found

    def asked(self, name: str, wanted: str) -> dict[str, Any]:
        """The row of a refund that was asked for after the sale."""
        (found,) = (
            row
            for row in self.tables["refund_requests"]
            if row["order_uid"] == uid_of(name) and row["name"] == wanted
        )
        return found

    def message(self, name: str, type_: EventType) -> int:
        """Where the message of an order's event stands."""
        id_ = str(self.told(name, type_)["event_id"])
        (found,) = (number for number, message in enumerate(self.messages) if message.event_id == id_)
        return found

    def live(self, kind: Kind, name: str) -> dict[str, Any]:
        """The custom resource of an order."""
        (found,) = (one for one in self.resources[kind] if one["metadata"]["name"] == name)
        return found

    def forget(self, table: str, row: dict[str, Any]) -> None:
        self.tables[table] = [other for other in self.tables[table] if other is not row]


def clean_books(prefix: str = "") -> Books:
    """One order in every state, a Reservation of its own, a correction by a difference and one by a count, an
    adjustment's key, and an intent that nobody came back for."""
    books = Books()
    books.tables["users"].append(_customer())
    books.tables["stock"].append(
        {"merchant": SHOP, "sku": TEA, "opening": OPENING, "on_hand": OPENING, "reserved": 0}
    )
    _shipped(books, f"{prefix}delivered", is_delivered=True)
    _shipped(books, f"{prefix}shipped", is_delivered=False)
    _left(books, f"{prefix}left")
    _returned(books, f"{prefix}returned")
    _declined(books, f"{prefix}declined")
    _refunded(books, f"{prefix}refunded")
    _voided(books, f"{prefix}voided")
    _withdrawn(books, f"{prefix}withdrawn")
    _charged_back(books, f"{prefix}charged-back")
    _in_flight(books, f"{prefix}in-flight")
    _standalone(books, f"{prefix}alone")
    _deliver(books, prefix)
    _correct(books, "Adjust", 5, "a delivery")
    _correct(books, "Recount", -1, "a broken cup")
    books.tables["idempotency"].append({"merchant": SHOP, "kind": None, "name": None, "status": 200})
    abandoned = f"pi_{prefix}abandoned"
    books.intents[abandoned] = Intent(
        abandoned, IntentState.UNCONFIRMED, TOTAL, "EUR", 0, str(uid_of(f"{prefix}delivered"))
    )
    return books


def _deliver(books: Books, prefix: str) -> None:
    """An endpoint that wants all that was shipped, and got it; and a test of it that nobody took."""
    books.tables["webhook_endpoints"].append(
        {"merchant": SHOP, "id": "we-1", "event_types": ["order.shipped"], "deleted_at": None,
         "subscribed_at": NOW - timedelta(days=90)}
    )  # fmt: skip
    delivery = {"merchant": SHOP, "endpoint_id": "we-1", "is_test": False}
    for event in books.tables["history"]:
        if event["type"] == EventType.ORDER_SHIPPED:
            books.tables["event_deliveries"].append(
                {**delivery, "event_id": event["event_id"], "state": "Delivered", "was_taken": True}
            )
    test = {"event_id": uid_of(f"{prefix}test"), "state": "Parked", "was_taken": False, "is_test": True}
    books.tables["event_deliveries"].append(delivery | test)


def big_books(copies: int) -> Books:
    """The clean books so many times over, each order another, all from one shelf."""
    whole = Books()
    for number in range(copies):
        part = clean_books(f"{number}-")
        for name, rows in part.tables.items():
            whole.tables[name] += rows
        for kind, resources in part.resources.items():
            whole.resources[kind] += resources
        del whole.tables["webhook_endpoints"][1:]  # it is one of the shop's
        whole.intents |= part.intents
        whole.refunds |= part.refunds
        whole.disputes |= part.disputes
        whole.parcels |= part.parcels
        whole.messages += part.messages
        for channel, references in part.outgoing.items():
            whole.outgoing[channel] += references
    whole.tables["users"] = [_customer()]
    shelves = whole.tables["stock"]
    summed = {column: sum(row[column] for row in shelves) for column in ("opening", "on_hand", "reserved")}
    whole.tables["stock"] = [{"merchant": SHOP, "sku": TEA, **summed}]
    return whole


def _shipped(books: Books, name: str, *, is_delivered: bool) -> None:
    _open(books, name)
    _hold(books, name, "Pinned")
    _pay(books, name)
    _label(books, name)
    books.row("reservations", name)["state"] = "Committed"
    _move(books, name, "Commit", -1, -1)
    books.row("shipments", name)["is_shipped"] = True
    _tell(books, name, EventType.ORDER_SHIPPED)
    _seal(books, name, "Shipped")
    if is_delivered:
        books.row("orders", name)["outcome"] = "Delivered"
        _tell(books, name, EventType.ORDER_DELIVERED)
    books.live(Kind.ORDER, name)["status"]["phase"] = "Delivered" if is_delivered else "Shipped"


def _left(books: Books, name: str) -> None:
    """It has left the API server, with its children."""
    _shipped(books, name, is_delivered=True)
    books.row("orders", name)["is_archived"] = books.row("orders", name)["is_archive_due"] = True
    books.tables["archived_orders"].append({
        "merchant": SHOP, "uid": uid_of(name), "name": name, "phase": "Delivered", "is_outdated": False,
        "outcome": "Delivered",
    })  # fmt: skip
    for kind in Kind:
        books.resources[kind] = [one for one in books.resources[kind] if one["metadata"]["name"] != name]


def _returned(books: Books, name: str) -> None:
    """One of two pieces came back after the sale, and something was given back for the trouble."""
    _shipped(books, name, is_delivered=True)
    _refund(books, name, "piece", TOTAL // 2, {TEA: 1}, is_restocked=True)
    _refund(books, name, "trouble", 100, {})
    books.tables["refund_requests"].append({
        "merchant": SHOP, "order_uid": uid_of(name), "name": "greedy", "amount": 10 * TOTAL, "lines": {},
        "is_restocked": False, "refund_id": None,
    })  # fmt: skip
    books.live(Kind.ORDER, name)["spec"]["refunds"] = [{"name": "piece"}, {"name": "greedy"}]


def _refund(
    books: Books, name: str, wanted: str, amount: int, lines: dict[str, int], *, is_restocked: bool = False
) -> None:
    id_ = uuid5(uid_of(name), f"refund/{wanted}")
    books.tables["refund_requests"].append({
        "merchant": SHOP, "order_uid": uid_of(name), "name": wanted, "amount": amount, "lines": lines,
        "is_restocked": is_restocked, "refund_id": id_,
    })  # fmt: skip
    _tell(books, name, EventType.REFUND_REQUESTED, effect=id_)
    if is_restocked:
        _move(books, name, "Return", 1, 0, pieces=lines[TEA], at=NOW - timedelta(seconds=30))
    provider_id = f"re_{name}_{wanted}"
    books.tables["refunds"].append({
        "id": id_, "merchant": SHOP, "order_uid": uid_of(name), "amount": amount, "state": "Succeeded",
        "provider_id": provider_id,
    })  # fmt: skip
    books.refunds[provider_id] = Refund(
        provider_id, f"pi_{name}", ProviderRefundState.SUCCEEDED, amount, "EUR", str(id_)
    )
    _tell(books, name, EventType.PAYMENT_REFUNDED, effect=id_)


def _declined(books: Books, name: str) -> None:
    _open(books, name)
    _hold(books, name, "Pinned")
    _pay(books, name, is_declined=True)
    row = books.row("payments", name)
    row["state"], row["reason"] = "Cancelled", "CardDeclined"
    _tell(books, name, EventType.PAYMENT_FAILED)
    _tell(books, name, EventType.PAYMENT_CANCELLED)
    _release(books, name)
    _end(books, name, "Failed", EventType.ORDER_FAILED)


def _refunded(books: Books, name: str) -> None:
    _open(books, name)
    _hold(books, name, "Pinned")
    _pay(books, name)
    _give_money_back(books, name)
    _release(books, name)
    _end(books, name, "Failed", EventType.ORDER_FAILED)


def _voided(books: Books, name: str) -> None:
    """Cancelled after its label was bought: everything that there is to undo."""
    _open(books, name)
    _hold(books, name, "Pinned")
    _pay(books, name)
    _label(books, name)
    _move(books, name, "Commit", -1, -1)
    row = books.row("shipments", name)
    row["is_shipped"] = True
    _tell(books, name, EventType.ORDER_SHIPPED)
    row["state"], row["void_state"] = "Voided", "Submitted"
    parcel = books.parcels[f"shp_{name}"]
    books.parcels[parcel.id] = CarrierShipment(
        parcel.id, parcel.reference, parcel.rate_id, parcel.label, VoidState.SUBMITTED, parcel.tracking_status
    )
    _tell(books, name, EventType.SHIPMENT_CANCELLED)
    _give_money_back(books, name)
    books.row("reservations", name)["state"] = "Released"
    _move(books, name, "Return", 1, 0)
    _tell(books, name, EventType.INVENTORY_RELEASED)
    _end(books, name, "Cancelled", EventType.ORDER_CANCELLED)


def _withdrawn(books: Books, name: str) -> None:
    """Cancelled after the merchant had refunded a part at the provider."""
    _open(books, name)
    _hold(books, name, "Pinned")
    _pay(books, name)
    refund = Refund(f"re_other_{name}", f"pi_{name}", ProviderRefundState.SUCCEEDED, ELSEWHERE, "EUR", "")
    books.refunds[refund.id] = refund
    _withdraw(books, name, refund.id, "Refund", ELSEWHERE)
    _give_money_back(books, name, TOTAL - ELSEWHERE)
    _release(books, name)
    _end(books, name, "Cancelled", EventType.ORDER_CANCELLED)


def _charged_back(books: Books, name: str) -> None:
    """Cancelled after the customer's bank had taken all of it, so that the refund was not needed."""
    _open(books, name)
    _hold(books, name, "Pinned")
    _pay(books, name)
    dispute = Dispute(f"du_{name}", f"pi_{name}", DisputeState.LOST, TOTAL, "EUR")
    books.disputes[dispute.id] = dispute
    books.tables["refunds"].append({
        "id": refund_of(name), "merchant": SHOP, "order_uid": uid_of(name), "amount": TOTAL,
        "state": "NotNeeded", "provider_id": None,
    })  # fmt: skip
    _withdraw(books, name, dispute.id, "Dispute", TOTAL)
    books.row("payments", name)["state"] = "Refunded"
    _release(books, name)
    _end(books, name, "Cancelled", EventType.ORDER_CANCELLED)


def _in_flight(books: Books, name: str) -> None:
    """Charged and labelled, but both answers were lost: the ledger is a step behind either provider."""
    _open(books, name)
    _hold(books, name, "Pinned")
    _pay(books, name)
    _label(books, name)
    row = books.row("payments", name)
    row["state"], row["captured"] = "Intended", 0
    books.forget("history", books.told(name, EventType.PAYMENT_SUCCESS))
    books.messages.pop()
    books.row("orders", name)["seq"] -= 1
    shipment = books.row("shipments", name)
    shipment["state"], shipment["tracking_code"] = "Intended", None


def _standalone(books: Books, name: str) -> None:
    row = {
        "merchant": SHOP, "holder": uid_of(name), "order_uid": None, "name": name, "state": "Held",
        "expires_at": NOW + timedelta(minutes=5),
    }  # fmt: skip
    books.tables["reservations"].append(row)
    books.tables["reservation_lines"].append(_line(name))
    _move(books, name, "Hold", 0, 1)
    _tell(books, name, EventType.INVENTORY_RESERVED)
    books.resources[Kind.RESERVATION].append(_resource(name, {}, "Held"))
    books.tables["idempotency"].append({"merchant": SHOP, "kind": "Reservation", "name": name, "status": 201})


def _open(books: Books, name: str) -> None:
    books.tables["idempotency"].append({"merchant": SHOP, "kind": "Order", "name": name, "status": 202})
    books.tables["orders"].append({
        "merchant": SHOP, "uid": uid_of(name), "name": name, "state": "Open", "outcome": None, "seq": 0,
        "currency": "EUR", "total": TOTAL, "sealed_at": None, "finished_at": None,
        "is_archived": False, "is_archive_due": False,
    })  # fmt: skip
    books.resources[Kind.ORDER].append(_resource(name, {}, "Pending"))
    reference = {"orderRef": {"name": name, "uid": str(uid_of(name))}}
    for kind in (Kind.RESERVATION, Kind.PAYMENT, Kind.SHIPMENT):
        books.resources[kind].append(_resource(name, reference))
    _tell(books, name, EventType.ORDER_CREATED)


def _hold(books: Books, name: str, state: str) -> None:
    books.tables["reservations"].append({
        "merchant": SHOP, "holder": uid_of(name), "order_uid": uid_of(name), "name": name, "state": state,
        "expires_at": NOW - timedelta(minutes=30),
    })  # fmt: skip
    books.tables["reservation_lines"].append(_line(name))
    _move(books, name, "Hold", 0, 1)
    _tell(books, name, EventType.INVENTORY_RESERVED)


def _pay(books: Books, name: str, *, is_declined: bool = False) -> None:
    id_ = f"pi_{name}"
    state, received = (IntentState.CANCELLED, 0) if is_declined else (IntentState.CAPTURED, TOTAL)
    books.intents[id_] = Intent(id_, state, TOTAL, "EUR", received, str(uid_of(name)))
    books.tables["payments"].append({
        "merchant": SHOP, "order_uid": uid_of(name), "name": name, "amount": TOTAL, "currency": "EUR",
        "state": "Captured", "intent_id": id_, "captured": received, "reason": None,
    })  # fmt: skip
    if not is_declined:
        _tell(books, name, EventType.PAYMENT_SUCCESS)


def _withdraw(books: Books, name: str, provider_id: str, kind: str, amount: int) -> None:
    id_ = uuid5(uid_of(name), provider_id)
    books.tables["withdrawals"].append({
        "id": id_, "order_uid": uid_of(name), "provider_id": provider_id, "kind": kind, "amount": amount,
    })  # fmt: skip
    _tell(books, name, EventType.PAYMENT_WITHDRAWN, effect=id_)


def _give_money_back(books: Books, name: str, amount: int = TOTAL) -> None:
    books.tables["refunds"].append({
        "id": refund_of(name), "merchant": SHOP, "order_uid": uid_of(name), "amount": amount,
        "state": "Succeeded", "provider_id": f"re_{name}",
    })  # fmt: skip
    books.row("payments", name)["state"] = "Refunded"
    books.refunds[f"re_{name}"] = Refund(
        f"re_{name}", f"pi_{name}", ProviderRefundState.SUCCEEDED, amount, "EUR", str(refund_of(name))
    )
    _tell(books, name, EventType.PAYMENT_REFUNDED, effect=refund_of(name))


def _label(books: Books, name: str) -> None:
    label = Label(f"TRK-{name}", f"trk_{name}", "", "USPS", "Priority", 500, "USD")
    books.parcels[f"shp_{name}"] = CarrierShipment(
        f"shp_{name}", str(uid_of(name)), "rate", label, VoidState.NONE, TrackingStatus.PRE_TRANSIT
    )
    books.tables["shipments"].append({
        "merchant": SHOP, "order_uid": uid_of(name), "name": name, "state": "Bought",
        "provider_id": f"shp_{name}", "tracking_code": f"TRK-{name}", "void_state": "None",
        "is_shipped": False,
    })  # fmt: skip


def _release(books: Books, name: str) -> None:
    books.row("reservations", name)["state"] = "Released"
    _move(books, name, "Release", 0, -1)
    _tell(books, name, EventType.INVENTORY_RELEASED)


def _end(books: Books, name: str, outcome: str, type_: EventType) -> None:
    _seal(books, name, outcome)
    _tell(books, name, type_)
    books.live(Kind.ORDER, name)["status"]["phase"] = outcome
    for kind in (Kind.RESERVATION, Kind.PAYMENT, Kind.SHIPMENT):
        books.resources[kind].remove(books.live(kind, name))


def _seal(books: Books, name: str, outcome: str) -> None:
    row = books.row("orders", name)
    row["state"], row["outcome"], row["sealed_at"] = "Sealed", outcome, NOW - timedelta(minutes=1)


def _move(
    books: Books,
    name: str,
    kind: str,
    on_hand: int,
    reserved: int,
    *,
    pieces: int = QUANTITY,
    at: datetime = NOW - timedelta(minutes=2),
) -> None:
    books.tables["stock_movements"].append({
        "merchant": SHOP, "sku": TEA, "on_hand_delta": on_hand * pieces,
        "reserved_delta": reserved * pieces, "kind": kind, "holder": uid_of(name), "note": None, "at": at,
    })  # fmt: skip
    (stock,) = books.tables["stock"]
    stock["on_hand"] += on_hand * pieces
    stock["reserved"] += reserved * pieces


def _correct(books: Books, kind: str, on_hand: int, note: str) -> None:
    books.tables["stock_movements"].insert(0, {
        "merchant": SHOP, "sku": TEA, "on_hand_delta": on_hand, "reserved_delta": 0, "kind": kind,
        "holder": None, "note": note, "at": NOW - timedelta(minutes=3),
    })  # fmt: skip
    books.tables["stock"][0]["on_hand"] += on_hand


def _tell(books: Books, name: str, type_: EventType, *, effect: UUID | None = None) -> None:
    uid = uid_of(name)
    gates = [row for row in books.tables["orders"] if row["uid"] == uid]
    for gate in gates:
        gate["seq"] += 1
    sequence = gates[0]["seq"] if gates else 1
    data: dict[str, Any] = {"merchant": SHOP, "order": {"name": name, "uid": str(uid)}}
    if type_ is EventType.ORDER_CREATED:
        data["customer"] = CUSTOMER
    row = {
        "event_id": event_id(effect or uid, type_), "merchant": SHOP, "subject": uid, "name": name,
        "seq": sequence, "type": type_.value, "data": data, "at": NOW - timedelta(minutes=2),
        "published_at": NOW - timedelta(minutes=2),
    }  # fmt: skip
    books.tables["history"].append(row)
    for channel in CHANNELS.get(type_, ()):
        _notify(books, row, channel)
    number = len(books.messages)
    books.messages.append(
        Message(
            type_.value,
            0,
            number,
            str(uid),
            str(row["event_id"]),
            sequence,
            1000 + number,
            orjson.dumps(data),
        )
    )


def _notify(books: Books, row: dict[str, Any], channel: Channel) -> None:
    """The customer is told."""
    books.tables["notifications"].append({
        "merchant": SHOP, "event_id": row["event_id"], "channel": channel.value, "order_uid": row["subject"],
        "seq": row["seq"], "type": row["type"], "customer": CUSTOMER, "state": "Sent", "reason": None,
        "unknown_attempts": 0, "is_forced": False, "ended_at": NOW - timedelta(seconds=60 - row["seq"]),
    })  # fmt: skip
    books.outgoing[channel].append(message_reference(row["event_id"], channel))


def _customer() -> dict[str, Any]:
    return {
        "merchant": SHOP, "id": CUSTOMER, "preferences": {"email": True, "sms": True},
        "is_email_confirmed": True, "has_phone": True,
        "updated_at": NOW - timedelta(days=1), "deleted_at": None,
    }  # fmt: skip


def _line(name: str) -> dict[str, Any]:
    return {"merchant": SHOP, "holder": uid_of(name), "sku": TEA, "quantity": QUANTITY}


def _resource(name: str, spec: dict[str, Any], phase: str = "") -> dict[str, Any]:
    metadata = {"namespace": SHOP, "name": name, "uid": str(uid_of(name)), "finalizers": []}
    return {"metadata": metadata, "spec": spec, "status": {"phase": phase, "conditions": []}}
