"""The table of docs/parcels.md: each word of the carrier, wherever the order is, on the carrier's sandbox."""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from orderplane.adapters.carriers.easypost import EasyPostCarrier, parse_tracking_status
from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.engine.conditions import find
from orderplane.controllers.order.children import Children
from orderplane.controllers.order.delivery import TROUBLES
from orderplane.controllers.order.status import events_of, status_of
from orderplane.controllers.shipment.act import ShipmentReconciler
from orderplane.controllers.shipment.polling import TrackingPoller
from orderplane.controllers.shipment.status import status_of as shipment_status_of
from orderplane.crds.order import Address, OrderStatus
from orderplane.crds.reasons import Reason
from orderplane.crds.shipment import Parcel, Service
from orderplane.dev.sandbox.carrier.shipments import TrackingStatus as Word
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.model.gate import InMemoryGateLedger
from orderplane.ledgers.model.shipments import InMemoryShipmentLedger
from orderplane.ledgers.model.tables import Tables
from orderplane.ledgers.payments import PaymentEntry
from orderplane.ledgers.shipments import ShipmentEntry
from orderplane.ledgers.states import (
    NOT_DELIVERED,
    GateState,
    Outcome,
    PaymentState,
    ReservationState,
    ShipmentState,
    TrackingStatus,
    VoidState,
)
from orderplane.ledgers.stock import ReservationEntry

from ...controllers.builders import a_child, an_order

pytestmark = pytest.mark.usefixtures("calm")

DOC = (Path(__file__).parents[3] / "docs" / "parcels.md").read_text(encoding="utf-8")
SHOP, NAME = "shop", "tea"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
SETTLE, POLL = timedelta(seconds=30), timedelta(seconds=60)
UNDOCUMENTED = "teleported"
PARCEL = Parcel(weight_grams=1200, length_millimetres=300, width_millimetres=200, height_millimetres=100)


def table(first: str) -> tuple[list[str], list[list[str]]]:
    """The table of the document whose first column has that heading: the other headings, and the rows."""
    lines = DOC[DOC.index(f"| {first} |") :].split("\n\n")[0].splitlines()
    head, _, *rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    return head[1:], rows


HEAD, ROWS = table("the carrier says")
PHASES = HEAD[1:]
WORDS = {row[0] if row[0] != "anything else" else UNDOCUMENTED: row[1:] for row in ROWS}


@dataclass
class Shop:
    """One order with a label, its ledgers, and who acts on it."""

    uid: str
    tables: Tables
    shipments: InMemoryShipmentLedger
    reconciler: ShipmentReconciler
    poller: TrackingPoller
    code: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return SHOP, f"{NAME}-{self.uid[-8:]}"

    @property
    def gate(self) -> Gate:
        gate = self.tables.view(self.uid)
        assert gate is not None
        return gate

    @property
    def entry(self) -> ShipmentEntry:
        return self.tables.shipments[self.uid]

    async def act(self) -> str | None:
        """Poll the carrier once, and reconcile the shipment; answers why it could not be done."""
        await self.poller.track()
        try:
            await self.reconciler.reconcile(self.key, None)
        except Transient as problem:
            return problem.reason
        return None


async def no_pause(_: str) -> None:
    """Nothing else runs here."""


async def bought(carrier: EasyPostCarrier, street: str) -> Shop:
    """An open order that is paid and whose label is bought, by the real steps of the ledger."""
    uid = str(uuid4())
    tables = Tables(now=lambda: NOW, pause=no_pause)
    tables.on_hand["TEA"] = tables.opening["TEA"] = 5
    tables.reserved["TEA"], tables.moved["TEA"] = 2, 0
    tables.lines[uid] = {"TEA": 2}
    tables.totals[uid] = (1000, "EUR")
    tables.gates[uid] = Gate(SHOP, uid, NAME, GateState.OPEN)
    tables.reservations[uid] = ReservationEntry(ReservationState.PINNED, None, NOW, timedelta())
    tables.payments[uid] = PaymentEntry(
        uid, 1000, "EUR", "pm_card_visa", PaymentState.CAPTURED, "pi_1", 1, 1, 1000, None, None
    )
    shipments = InMemoryShipmentLedger(tables)
    cluster = Cluster(None, lambda: 0.0, lambda *_: None)  # type: ignore[arg-type]
    reconciler = ShipmentReconciler(
        cluster, InMemoryGateLedger(tables), shipments, carrier, lambda *_, **__: None, lambda: NOW,
        operator="operator-0", elapsed=lambda: 0.0, settle=SETTLE, first_poll=POLL,
    )  # fmt: skip
    poller = TrackingPoller(
        shipments, shipments, carrier, lambda *_, **__: None, first=POLL, longest=POLL, settle=SETTLE
    )
    shop = Shop(uid, tables, shipments, reconciler, poller)
    await shipments.intend(SHOP, uid, name=shop.key[1])
    address = Address(name="N. N.", line1=street, city="Delft", postal_code="2611", country="NL")
    made = await carrier.create(
        reference=uid, merchant=SHOP, address=address, parcels=[PARCEL], service=Service.STANDARD
    )
    assert made.rate_id is not None
    await shipments.begin_buy(
        SHOP, uid, provider_id=made.id, rate_id=made.rate_id, attempt=1, operator="operator-0"
    )
    label = (await carrier.buy(made.id, made.rate_id)).label
    assert label is not None
    await shipments.record_label(SHOP, uid, label, first_poll=POLL)
    shop.code = label.tracking_code
    return shop


async def brought_to(phase: str, carrier: EasyPostCarrier, scan: Any) -> Shop:
    """An order that is at a column of the table; the carrier has said nothing but `pre_transit` so far."""
    shop = await bought(carrier, "Lighthouse 1" if phase == "void refused" else "Main Street 1")
    # The sandbox moves parcels by the clock: not before this test says so.
    await scan(shop.code, "pre_transit")
    uid, tables = shop.uid, shop.tables
    gates = InMemoryGateLedger(tables)
    if phase in ("being undone", "void refused", "undone"):
        await gates.compensate(
            SHOP, uid, reason=Reason.CANCEL_REQUESTED, message="Called off.", is_cancel=True
        )
    match phase:
        case "void refused":
            assert await shop.act() == Reason.VOID_REJECTED
        case "shipped":
            await shop.shipments.record_tracking_status(SHOP, uid, TrackingStatus.IN_TRANSIT)
        case "delivered":
            await shop.shipments.record_tracking_status(SHOP, uid, TrackingStatus.DELIVERED)
        case "undone":
            await shop.act()
            assert shop.gate.is_shipment_settled
            tables.payments[uid] = replace(tables.payments[uid], state=PaymentState.REFUNDED)
            tables.reservations[uid] = replace(tables.reservations[uid], state=ReservationState.RELEASED)
            await gates.seal(SHOP, uid)
        case "stray":
            # It was settled that there is no label; then this one came home.
            tables.reservations[uid] = replace(tables.reservations[uid], state=ReservationState.RELEASED)
            tables.payments[uid] = replace(tables.payments[uid], state=PaymentState.REFUNDED)
            label, entry = shop.entry.label, shop.entry
            assert label is not None
            tables.shipments[uid] = replace(entry, state=ShipmentState.CANCELLED, label=None)
            tables.gates[uid] = replace(
                tables.gates[uid], state=GateState.SEALED, outcome=Outcome.CANCELLED,
                reason=Reason.CANCEL_REQUESTED, is_cancel=True,
            )  # fmt: skip
            await shop.shipments.record_label(SHOP, uid, label, first_poll=POLL)
            assert shop.entry.state is ShipmentState.STRAY
    return shop


def shown(shop: Shop) -> tuple[OrderStatus, Any]:
    """What the Order and the Shipment say."""
    order = an_order(cancel=shop.gate.is_cancel)
    status = status_of(order, shop.gate, Children(), (), (), None, NOW)
    shipment = a_child("Shipment")
    return status, shipment_status_of(shipment, shop.entry, None, NOW)


def is_kept(shop: Shop) -> bool:
    """Neither goods nor money may be given back, and nothing gave them back."""
    return (
        not shop.gate.is_shipment_settled
        and shop.tables.reservations[shop.uid].state is ReservationState.COMMITTED
        and shop.tables.payments[shop.uid].state is PaymentState.CAPTURED
    )


@pytest.mark.parametrize(("word", "phase"), tuple(product(WORDS, PHASES)))
async def test_each_cell(carrier: EasyPostCarrier, carrier_sandbox: Any, word: str, phase: str) -> None:
    async def scan(code: str, status: str) -> None:
        body = {"tracking_code": code, "status": status}
        answer, document, _ = await carrier_sandbox.call("POST", "/_sandbox/scan", json=body)
        assert answer == 200, document

    shop = await brought_to(phase, carrier, scan)
    before = shop.gate
    await scan(shop.code, word)
    problem = await shop.act()
    cell, trouble = WORDS[word][1 + PHASES.index(phase)], TROUBLES.get(TrackingStatus(WORDS[word][0]))
    order, shipment = shown(shop)
    outcome = shop.gate.outcome
    match cell.removesuffix(", told"):
        case "nothing" | "audit":
            assert (shop.gate, problem) == (before, None)
        case "ships":
            assert is_kept(shop)
            assert (order.phase, outcome) == ("Shipped", Outcome.SHIPPED)
        case "told":
            assert is_kept(shop)
            assert (order.phase, outcome) == ("Shipped", Outcome.SHIPPED)
        case "arrives":
            assert is_kept(shop)
            assert (order.phase, outcome) == ("Delivered", Outcome.DELIVERED)
        case "too late":
            assert is_kept(shop)
            assert outcome in (Outcome.SHIPPED, Outcome.DELIVERED)
            cancelled = find(order.conditions, "Cancelled")
            assert cancelled is not None
            assert (cancelled.status, cancelled.reason) == ("False", Reason.ALREADY_IN_TRANSIT)
        case "voided":
            assert shop.entry.state is ShipmentState.VOIDED
            assert shop.gate.is_shipment_settled
        case "waits":
            assert problem == Reason.VOID_REJECTED
            assert (shop.entry.state, shop.entry.void) == (ShipmentState.BOUGHT, VoidState.REJECTED)
            assert is_kept(shop)
            assert shipment.reason == Reason.VOID_REJECTED
        case "discarded":
            assert shop.entry.state is ShipmentState.DISCARDED
            assert shop.gate.outcome is Outcome.CANCELLED
        case "travels":
            assert problem == Reason.STRAY_PARCEL
            assert shop.entry.state is ShipmentState.STRAY
            assert shop.gate.outcome is Outcome.CANCELLED
        case other:
            pytest.fail(f"the document says {other}")
    if cell.endswith("told"):
        assert trouble is not None
        assert order.reason == shipment.reason == trouble.reason
        told = {event.reason: event.type for event in events_of(OrderStatus(), order)}
        assert told[trouble.reason] == "Warning"


def test_the_document_has_every_word_that_easypost_documents() -> None:
    assert set(WORDS) == {*Word, UNDOCUMENTED}
    for word, row in WORDS.items():
        assert parse_tracking_status(word) == row[0]
    assert parse_tracking_status(None) is TrackingStatus.PRE_TRANSIT


def test_the_document_has_the_reason_of_each_trouble() -> None:
    _, rows = table("trouble")
    assert {row[0]: row[1] for row in rows} == {status: fact.reason for status, fact in TROUBLES.items()}
    assert set(TROUBLES) == NOT_DELIVERED


def test_the_document_explains_every_cell() -> None:
    _, rows = table("cell")
    explained = {row[0] for row in rows}
    assert {part for row in WORDS.values() for cell in row[1:] for part in re.split(", ", cell)} == explained
