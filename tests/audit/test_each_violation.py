"""The audit is silent about clean books, and names each violation that is planted in them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from re import findall
from uuid import uuid4, uuid5

import pytest

from orderplane.audit import (
    deliveries,
    events,
    notifications,
    payments,
    refunds,
    resources,
    shipments,
    stock,
    verdict,
    withdrawals,
)
from orderplane.audit.snapshot import Notice
from orderplane.audit.verdict import INVARIANTS, Invariant, judge
from orderplane.controllers.payment.ports import Dispute, DisputeState, IntentState
from orderplane.crds.meta import Kind
from orderplane.events.notifications import Channel
from orderplane.events.types import EventType, event_id
from orderplane.ledgers.payments import ProviderRefundState
from orderplane.ledgers.states import TrackingStatus, VoidState

from .books import NOW, SHOP, TEA, TOTAL, Books, clean_books, refund_of, uid_of

Plant = Callable[[Books], None]
PLANTED: list[tuple[str, str, Invariant, Plant]] = []
"""The violation's name, its subject, the invariant that has to see it, and how it is brought about."""

LOST = uuid4()


def plants(name: str, subject: str, invariant: Invariant) -> Callable[[Plant], Plant]:
    def register(plant: Plant) -> Plant:
        PLANTED.append((name, subject, invariant, plant))
        return plant

    return register


@plants("stock-balance", f"{SHOP}/{TEA}", stock.stock_balances)
def _somebody_updates_the_shelf(books: Books) -> None:
    books.tables["stock"][0]["on_hand"] += 1


@plants("stock-balance", f"{SHOP}/GONE", stock.stock_balances)
def _a_shelf_is_gone(books: Books) -> None:
    books.tables["stock_movements"].append(
        {**books.tables["stock_movements"][0], "sku": "GONE", "holder": None}
    )


@plants("stock-negative", f"{SHOP}/{TEA}", stock.stock_balances)
def _less_than_nothing(books: Books) -> None:
    books.tables["stock"][0]["on_hand"] = -1


@plants("stock-oversold", f"{SHOP}/{TEA}", stock.stock_balances)
def _more_promised_than_there_is(books: Books) -> None:
    books.tables["stock"][0]["reserved"] = books.tables["stock"][0]["on_hand"] + 1


@plants("reserved-matches", f"{SHOP}/{TEA}", stock.reservations_match_stock)
def _a_hold_without_stock(books: Books) -> None:
    books.row("reservations", "declined")["state"] = "Held"


@plants("reserved-movements", f"{SHOP}/{TEA}", stock.reservations_match_stock)
def _a_movement_is_lost(books: Books) -> None:
    books.tables["stock_movements"].pop()


@plants("reservation-moved", f"{SHOP}/delivered", stock.movements_match_reservations)
def _goods_leave_twice(books: Books) -> None:
    (commit,) = (
        row
        for row in books.tables["stock_movements"]
        if row["holder"] == uid_of("delivered") and row["kind"] == "Commit"
    )
    books.tables["stock_movements"].append({**commit, "reserved_delta": 0})
    books.tables["stock"][0]["on_hand"] += commit["on_hand_delta"]


@plants("reservation-moved", f"{SHOP}/{LOST}", stock.movements_match_reservations)
def _a_movement_without_a_reservation(books: Books) -> None:
    books.tables["stock_movements"].append({**books.tables["stock_movements"][-1], "holder": LOST})


@plants("stock-correction", f"{SHOP}/{TEA}", stock.corrections_change_on_hand_alone)
def _an_adjustment_without_a_reason(books: Books) -> None:
    books.tables["stock_movements"][0]["note"] = None


@plants("stock-correction", f"{SHOP}/{TEA}", stock.corrections_change_on_hand_alone)
def _an_adjustment_of_what_is_kept(books: Books) -> None:
    (adjusted,) = (row for row in books.tables["stock_movements"] if row["kind"] == "Adjust")
    adjusted["reserved_delta"] = 1


@plants("stock-correction", f"{SHOP}/{TEA}", stock.corrections_change_on_hand_alone)
def _a_hold_for_nobody(books: Books) -> None:
    books.tables["stock_movements"].append({**books.tables["stock_movements"][-1], "holder": None})


@plants("stock-committed", f"{SHOP}/delivered", stock.orders_have_their_stock)
def _delivered_without_goods(books: Books) -> None:
    books.row("reservations", "delivered")["state"] = "Released"


@plants("stock-released", f"{SHOP}/refunded", stock.orders_have_their_stock)
def _undone_but_pinned(books: Books) -> None:
    books.row("reservations", "refunded")["state"] = "Pinned"


@plants("hold-expired", f"{SHOP}/alone", stock.no_hold_outlives_its_expiry)
def _a_hold_for_ever(books: Books) -> None:
    (row,) = (row for row in books.tables["reservations"] if row["name"] == "alone")
    row["expires_at"] = NOW - timedelta(hours=1)


@plants("stock-after-seal", f"{SHOP}/voided", stock.nothing_moves_after_the_end)
def _stock_moves_late(books: Books) -> None:
    row = next(row for row in books.tables["stock_movements"] if row["holder"] == uid_of("voided"))
    row["at"] = NOW


@plants("payment-total", f"{SHOP}/refunded", payments.orders_are_paid_exactly)
def _a_refund_never_came(books: Books) -> None:
    books.row("refunds", "refunded")["state"] = "Failed"


@plants("payment-total", f"{SHOP}/delivered", payments.orders_are_paid_exactly)
def _a_cent_too_little(books: Books) -> None:
    books.row("payments", "delivered")["captured"] -= 1


@plants("payment-currency", f"{SHOP}/shipped", payments.orders_are_paid_exactly)
def _paid_in_yen(books: Books) -> None:
    books.row("payments", "shipped")["currency"] = "JPY"


@plants("intent-unknown", "pi_stray", payments.intents_match_the_ledger)
def _a_stray_charge(books: Books) -> None:
    books.intents["pi_stray"] = replace(books.intents["pi_delivered"], id="pi_stray", reference="nobody")


@plants("intent-order", "pi_delivered", payments.intents_match_the_ledger)
def _somebody_elses_charge(books: Books) -> None:
    books.intents["pi_delivered"] = replace(books.intents["pi_delivered"], reference=str(uid_of("declined")))


@plants("intent-captured", "pi_delivered", payments.intents_match_the_ledger)
def _the_provider_took_more(books: Books) -> None:
    books.intents["pi_delivered"] = replace(books.intents["pi_delivered"], received=TOTAL + 1)


@plants("intent-captured", "pi_shipped", payments.intents_match_the_ledger)
def _the_provider_took_nothing(books: Books) -> None:
    books.intents["pi_shipped"] = replace(
        books.intents["pi_shipped"], state=IntentState.UNCONFIRMED, received=0
    )


@plants("intent-cancelled", "pi_declined", payments.intents_match_the_ledger)
def _an_intent_that_can_still_take_money(books: Books) -> None:
    books.intents["pi_declined"] = replace(books.intents["pi_declined"], state=IntentState.REFUSED)


@plants("intent-amount", "pi_delivered", payments.intents_match_the_ledger)
def _another_amount(books: Books) -> None:
    books.intents["pi_delivered"] = replace(books.intents["pi_delivered"], amount=1)


@plants("intent-missing", "pi_shipped", payments.intents_match_the_ledger)
def _the_provider_knows_nothing(books: Books) -> None:
    del books.intents["pi_shipped"]


@plants("charged-twice", str(uid_of("delivered")), payments.no_order_is_charged_twice)
def _two_charges(books: Books) -> None:
    books.intents["pi_again"] = replace(books.intents["pi_delivered"], id="pi_again")


@plants("refund-unknown", "re_stray", payments.refunds_match_the_ledger)
def _a_stray_refund(books: Books) -> None:
    stray = replace(books.refunds["re_voided"], id="re_stray", reference="nobody", intent_id="pi_nobodys")
    books.refunds["re_stray"] = stray


@plants("withdrawal-unknown", f"{SHOP}/voided", withdrawals.withdrawals_are_in_the_ledger)
def _the_merchant_refunds_what_was_refunded(books: Books) -> None:
    books.refunds["re_other"] = replace(books.refunds["re_voided"], id="re_other", reference="")


@plants("withdrawal-unknown", f"{SHOP}/refunded", withdrawals.withdrawals_are_in_the_ledger)
def _the_bank_takes_what_was_refunded(books: Books) -> None:
    books.disputes["du_late"] = Dispute("du_late", "pi_refunded", DisputeState.LOST, TOTAL, "EUR")


@plants("dispute-unknown", "du_stray", withdrawals.withdrawals_are_in_the_ledger)
def _a_dispute_of_an_unknown_payment(books: Books) -> None:
    books.disputes["du_stray"] = Dispute("du_stray", "pi_nobodys", DisputeState.OPEN, TOTAL, "EUR")


@plants("withdrawal-missing", "re_other_withdrawn", withdrawals.withdrawals_match_the_provider)
def _a_withdrawal_that_never_was(books: Books) -> None:
    del books.refunds["re_other_withdrawn"]


@plants("withdrawal-state", "re_other_withdrawn", withdrawals.withdrawals_match_the_provider)
def _the_other_refund_bounced(books: Books) -> None:
    bounced = replace(books.refunds["re_other_withdrawn"], state=ProviderRefundState.FAILED)
    books.refunds["re_other_withdrawn"] = bounced


@plants("withdrawal-state", "du_charged-back", withdrawals.withdrawals_match_the_provider)
def _the_dispute_was_won_after_all(books: Books) -> None:
    books.disputes["du_charged-back"] = replace(books.disputes["du_charged-back"], state=DisputeState.WON)


@plants("withdrawal-differs", "re_other_withdrawn", withdrawals.withdrawals_match_the_provider)
def _another_amount_was_withdrawn(books: Books) -> None:
    books.refunds["re_other_withdrawn"] = replace(books.refunds["re_other_withdrawn"], amount=1)


@plants("paid-back-twice", "pi_delivered", withdrawals.no_payment_goes_back_twice)
def _refunded_and_charged_back(books: Books) -> None:
    refund = replace(books.refunds["re_voided"], id="re_other", reference="", intent_id="pi_delivered")
    books.refunds["re_other"] = refund
    books.disputes["du_late"] = Dispute("du_late", "pi_delivered", DisputeState.LOST, TOTAL, "EUR")


@plants("refunded-twice", str(refund_of("voided")), payments.refunds_match_the_ledger)
def _two_refunds(books: Books) -> None:
    books.refunds["re_again"] = replace(books.refunds["re_voided"], id="re_again")


@plants("refund-amount", "re_voided", payments.refunds_match_the_ledger)
def _half_a_refund(books: Books) -> None:
    books.refunds["re_voided"] = replace(books.refunds["re_voided"], amount=1)


@plants("refund-payment", "re_voided", payments.refunds_match_the_ledger)
def _a_refund_of_another_charge(books: Books) -> None:
    books.refunds["re_voided"] = replace(books.refunds["re_voided"], intent_id="pi_delivered")


@plants("refund-state", "re_voided", payments.refunds_match_the_ledger)
def _a_refund_that_bounced(books: Books) -> None:
    books.refunds["re_voided"] = replace(books.refunds["re_voided"], state=ProviderRefundState.FAILED)


@plants("refund-state", "re_refunded", payments.refunds_match_the_ledger)
def _paid_back_by_hand_and_by_the_provider(books: Books) -> None:
    books.row("refunds", "refunded")["state"] = "SettledByHand"


@plants("refund-missing", str(refund_of("refunded")), payments.refunds_match_the_ledger)
def _the_provider_knows_no_refund(books: Books) -> None:
    del books.refunds["re_refunded"]


@plants("label-unknown", "shp_stray", shipments.labels_match_the_ledger)
def _a_stray_label(books: Books) -> None:
    books.parcels["shp_stray"] = replace(books.parcels["shp_delivered"], id="shp_stray", reference="nobody")


@plants("label-unknown", "shp_shipped", shipments.labels_match_the_ledger)
def _a_label_forgotten_after_the_end(books: Books) -> None:
    books.row("shipments", "shipped")["tracking_code"] = None


@plants("label-order", "shp_shipped", shipments.labels_match_the_ledger)
def _somebody_elses_label(books: Books) -> None:
    books.parcels["shp_shipped"] = replace(books.parcels["shp_shipped"], reference=str(uid_of("declined")))


@plants("label-code", "shp_delivered", shipments.labels_match_the_ledger)
def _another_tracking_code(books: Books) -> None:
    books.row("shipments", "delivered")["tracking_code"] = "TRK-other"


@plants("label-missing", "shp_delivered", shipments.labels_match_the_ledger)
def _the_carrier_knows_no_label(books: Books) -> None:
    books.parcels["shp_delivered"] = replace(books.parcels["shp_delivered"], label=None)


@plants("label-void", "shp_voided", shipments.labels_match_the_ledger)
def _a_void_never_arrived(books: Books) -> None:
    books.parcels["shp_voided"] = replace(books.parcels["shp_voided"], void=VoidState.NONE)


@plants("label-void", "shp_voided", shipments.labels_match_the_ledger)
def _a_void_was_refused_after_all(books: Books) -> None:
    books.parcels["shp_voided"] = replace(books.parcels["shp_voided"], void=VoidState.REJECTED)


@plants("parcel-travels", f"{SHOP}/voided", shipments.orders_have_one_label)
def _a_voided_label_travels(books: Books) -> None:
    books.parcels["shp_voided"] = replace(
        books.parcels["shp_voided"], tracking_status=TrackingStatus.IN_TRANSIT
    )


@plants("no-label", f"{SHOP}/voided", shipments.orders_have_one_label)
def _a_refused_void_counts_as_voided(books: Books) -> None:
    books.parcels["shp_voided"] = replace(books.parcels["shp_voided"], void=VoidState.REJECTED)


@plants("one-label", f"{SHOP}/delivered", shipments.orders_have_one_label)
def _two_labels(books: Books) -> None:
    books.parcels["shp_again"] = replace(books.parcels["shp_delivered"], id="shp_again")


@plants("no-label", f"{SHOP}/declined", shipments.orders_have_one_label)
def _a_label_for_nothing(books: Books) -> None:
    books.parcels["shp_free"] = replace(
        books.parcels["shp_delivered"], id="shp_free", reference=str(uid_of("declined"))
    )


@plants("accepted-lost", f"{SHOP}/promised", resources.accepted_orders_exist)
def _an_accepted_order_vanishes(books: Books) -> None:
    books.tables["idempotency"].append({"merchant": SHOP, "kind": "Order", "name": "promised", "status": 202})


@plants("reservation-answer", f"{SHOP}/alone", stock.reservations_are_as_answered)
def _a_promised_reservation_was_never_made(books: Books) -> None:
    books.forget("reservations", books.row("reservations", "alone"))
    books.forget("reservation_lines", books.row("reservation_lines", "alone"))


@plants("reservation-answer", f"{SHOP}/alone", stock.reservations_are_as_answered)
def _a_refused_reservation_was_made(books: Books) -> None:
    (answer,) = (row for row in books.tables["idempotency"] if row["name"] == "alone")
    answer["status"] = 409


@plants("hold-orphan", f"{SHOP}/alone", stock.holds_have_their_reservation)
def _a_reservation_is_torn_away(books: Books) -> None:
    books.resources[Kind.RESERVATION].remove(books.live(Kind.RESERVATION, "alone"))


@plants("reservation-phase", f"{SHOP}/alone", stock.reservations_show_the_ledger)
def _a_reservation_lies(books: Books) -> None:
    books.live(Kind.RESERVATION, "alone")["status"]["phase"] = "Released"


@plants("reservation-phase", f"{SHOP}/forged", stock.reservations_show_the_ledger)
def _a_reservation_is_held_by_its_own_word(books: Books) -> None:
    (one,) = (r for r in books.resources[Kind.RESERVATION] if r["metadata"]["name"] == "alone")
    metadata = {**one["metadata"], "name": "forged", "uid": str(LOST)}
    books.resources[Kind.RESERVATION].append({**one, "metadata": metadata})


@plants("gate-orphan", f"{SHOP}/in-flight", resources.gates_have_an_order_or_an_end)
def _a_running_order_vanishes(books: Books) -> None:
    books.resources[Kind.ORDER].remove(books.live(Kind.ORDER, "in-flight"))


@plants("archive-missing", f"{SHOP}/left", resources.absent_orders_are_archived)
def _an_order_goes_without_a_row(books: Books) -> None:
    books.row("orders", "left")["is_archived"] = False
    books.forget("archived_orders", books.row("archived_orders", "left"))


@plants("archive-missing", f"{SHOP}/left", resources.absent_orders_are_archived)
def _a_row_of_the_archive_is_lost(books: Books) -> None:
    books.row("archived_orders", "left")["phase"] = None


@plants("archive-phase", f"{SHOP}/left", resources.archived_phases_show_the_outcome)
def _an_archived_order_is_told_wrong(books: Books) -> None:
    books.row("archived_orders", "left")["phase"] = "Shipped"


@plants("archive-outdated", f"{SHOP}/left", resources.archived_phases_show_the_outcome)
def _an_archived_order_is_not_told_any_more(books: Books) -> None:
    books.row("archived_orders", "left")["is_outdated"] = True


@plants("child-orphan", f"Payment {SHOP}/shipped", resources.children_have_their_order)
def _a_child_stays_behind(books: Books) -> None:
    books.resources[Kind.ORDER].remove(books.live(Kind.ORDER, "shipped"))


@plants("refunded-too-much", f"{SHOP}/returned", refunds.no_more_goes_back_than_was_taken)
def _more_is_to_go_back_than_came(books: Books) -> None:
    (refund,) = (row for row in books.tables["refunds"] if row["amount"] == 100)
    refund["amount"] = TOTAL // 2 + 1
    refund["state"] = "Requested"


@plants("refund-asked", f"{SHOP}/{uid_of('returned')}/trouble", refunds.refunds_were_asked_for)
def _more_was_refunded_than_asked_for(books: Books) -> None:
    books.asked("returned", "trouble")["amount"] = 99


@plants("refund-asked", str(uuid5(uid_of("returned"), "refund/trouble")), refunds.refunds_were_asked_for)
def _nobody_has_asked_for_it(books: Books) -> None:
    books.forget("refund_requests", books.asked("returned", "trouble"))


@plants("refund-order", f"{SHOP}/{uid_of('refunded')}/trouble", refunds.refunds_were_asked_for)
def _asked_for_an_order_that_was_undone(books: Books) -> None:
    books.asked("returned", "trouble")["order_uid"] = uid_of("refunded")


@plants("refunded-pieces", f"{uid_of('returned')}/{TEA}", refunds.no_piece_comes_back_twice)
def _a_piece_comes_back_twice(books: Books) -> None:
    books.asked("returned", "trouble")["lines"] = {TEA: 2}


@plants("reservation-moved", f"{SHOP}/returned", stock.movements_match_reservations)
def _what_came_back_is_not_on_the_shelf(books: Books) -> None:
    (back,) = (
        row for row in books.tables["stock_movements"]
        if row["kind"] == "Return" and row["holder"] == uid_of("returned")
    )  # fmt: skip
    books.forget("stock_movements", back)


@plants("stock-after-seal", f"{SHOP}/returned", stock.nothing_moves_after_the_end)
def _goods_leave_once_more(books: Books) -> None:
    (back,) = (
        row for row in books.tables["stock_movements"]
        if row["kind"] == "Return" and row["holder"] == uid_of("returned")
    )  # fmt: skip
    back["kind"] = "Commit"


@plants("refund-unanswered", f"{SHOP}/returned", refunds.every_refund_of_a_spec_is_answered)
def _a_refund_that_nobody_looked_at(books: Books) -> None:
    books.live(Kind.ORDER, "returned")["spec"]["refunds"].append({"name": "forgotten"})


@plants(
    "event-count", f"refund {uuid5(uid_of('returned'), 'refund/piece')}", events.every_effect_has_its_event
)
def _a_refund_without_its_event(books: Books) -> None:
    (asked,) = (
        row for row in books.tables["history"]
        if row["event_id"] == event_id(uuid5(uid_of("returned"), "refund/piece"), EventType.REFUND_REQUESTED)
    )  # fmt: skip
    books.forget("history", asked)


@plants("event-after-end", f"{SHOP}/returned", events.nothing_happens_after_the_end)
def _a_refund_of_an_order_that_was_not_sold(books: Books) -> None:
    books.row("orders", "returned")["outcome"] = "Failed"


@plants("effect-after-seal", f"{SHOP}/returned", events.nothing_is_done_after_the_seal)
def _something_else_than_a_refund(books: Books) -> None:
    row = books.told("returned", EventType.PAYMENT_SUCCESS)
    row["at"] = NOW - timedelta(seconds=1)


@plants("event-count", f"{SHOP}/shipped", events.every_effect_has_its_event)
def _a_return_that_nobody_was_told_of(books: Books) -> None:
    books.row("orders", "shipped")["finished_at"] = NOW


@plants("child-after-seal", f"Shipment {SHOP}/refunded", resources.no_child_comes_after_the_end)
def _a_child_is_made_after_the_end(books: Books) -> None:
    child = books.live(Kind.SHIPMENT, "in-flight")
    reference = {"orderRef": {"name": "refunded", "uid": str(uid_of("refunded"))}}
    metadata = {**child["metadata"], "name": "refunded"}
    books.resources[Kind.SHIPMENT].append({**child, "metadata": metadata, "spec": reference})


@plants("finalizer-silent", f"Payment {SHOP}/in-flight", resources.finalizers_say_why)
def _a_deletion_hangs(books: Books) -> None:
    books.live(Kind.PAYMENT, "in-flight")["metadata"] |= {
        "deletionTimestamp": "2026-03-01T11:00:00Z", "finalizers": ["orderplane.dev/refund-payment"],
    }  # fmt: skip


@plants("phase-outcome", f"{SHOP}/refunded", resources.phases_show_the_outcome)
def _a_failure_shown_as_success(books: Books) -> None:
    books.live(Kind.ORDER, "refunded")["status"]["phase"] = "Delivered"


@plants("sequence-dense", str(uid_of("delivered")), events.sequences_are_dense)
def _a_gap(books: Books) -> None:
    books.told("delivered", EventType.ORDER_DELIVERED)["seq"] += 1


@plants("event-count", f"{SHOP}/shipped", events.every_effect_has_its_event)
def _an_effect_nobody_was_told_of(books: Books) -> None:
    books.forget("history", books.told("shipped", EventType.ORDER_SHIPPED))


@plants("event-unknown", str(LOST), events.every_effect_has_its_event)
def _an_event_without_an_effect(books: Books) -> None:
    row = books.told("declined", EventType.PAYMENT_FAILED)
    books.tables["history"].append({**row, "event_id": LOST, "seq": 99})


@plants("event-after-end", f"{SHOP}/declined", events.nothing_happens_after_the_end)
def _something_after_the_end(books: Books) -> None:
    end = books.told("declined", EventType.ORDER_FAILED)
    before = books.told("declined", EventType.INVENTORY_RELEASED)
    end["seq"], before["seq"] = before["seq"], end["seq"]


@plants("effect-after-seal", f"{SHOP}/voided", events.nothing_is_done_after_the_seal)
def _charged_after_the_seal(books: Books) -> None:
    books.told("voided", EventType.PAYMENT_SUCCESS)["at"] = NOW


@plants("not-in-topic", str(clean_books().told("delivered", EventType.PAYMENT_SUCCESS)["event_id"]),
        events.history_is_in_the_topics)  # fmt: skip
def _a_message_is_lost(books: Books) -> None:
    del books.messages[books.message("delivered", EventType.PAYMENT_SUCCESS)]


@plants("message-differs", str(clean_books().told("shipped", EventType.ORDER_CREATED)["event_id"]),
        events.history_is_in_the_topics)  # fmt: skip
def _a_message_says_something_else(books: Books) -> None:
    number = books.message("shipped", EventType.ORDER_CREATED)
    books.messages[number] = replace(books.messages[number], value=b'{"total": 1}')


@plants("message-unknown", str(LOST), events.history_is_in_the_topics)
def _a_forged_message(books: Books) -> None:
    books.messages.append(replace(books.messages[0], event_id=str(LOST), value=b"not even JSON"))


@plants("message-order", str(uid_of("delivered")), events.first_messages_are_in_order)
def _messages_swap(books: Books) -> None:
    number = books.message("delivered", EventType.ORDER_DELIVERED)
    books.messages[number] = replace(books.messages[number], appended_at=1)


def id_of(name: str, type_: EventType) -> str:
    """The event's id in the clean books."""
    return str(clean_books().told(name, type_)["event_id"])


@plants("notification-missing", id_of("shipped", EventType.ORDER_SHIPPED),
        notifications.every_due_message_has_a_row)  # fmt: skip
def _a_customer_is_forgotten(books: Books) -> None:
    row = books.notice("shipped", EventType.ORDER_SHIPPED, Channel.SMS)
    books.forget("notifications", row)
    books.outgoing[Channel.SMS].remove(row["event_id"].hex[:12])


@plants("delivery-missing", id_of("shipped", EventType.ORDER_SHIPPED),
        deliveries.every_subscribed_event_has_a_delivery)  # fmt: skip
def _an_endpoint_is_forgotten(books: Books) -> None:
    event = books.told("shipped", EventType.ORDER_SHIPPED)["event_id"]
    (row,) = (row for row in books.tables["event_deliveries"] if row["event_id"] == event)
    books.forget("event_deliveries", row)


@plants("delivery-missing", id_of("delivered", EventType.ORDER_CREATED),
        deliveries.every_subscribed_event_has_a_delivery)  # fmt: skip
def _an_endpoint_for_everything_gets_nothing(books: Books) -> None:
    event = books.told("delivered", EventType.ORDER_CREATED)
    books.tables["webhook_endpoints"][0]["event_types"] = []
    for other in books.tables["history"]:
        if other is not event:
            books.tables["event_deliveries"].append(
                {**books.tables["event_deliveries"][0], "event_id": other["event_id"]}
            )


@plants("delivery-unknown", str(uid_of("nowhere")), deliveries.deliveries_are_of_events)
def _something_is_delivered_that_never_happened(books: Books) -> None:
    books.tables["event_deliveries"][0]["event_id"] = uid_of("nowhere")
    books.tables["webhook_endpoints"].clear()


@plants("delivery-unproved", id_of("delivered", EventType.ORDER_SHIPPED),
        deliveries.what_is_delivered_was_taken)  # fmt: skip
def _nobody_took_what_is_delivered(books: Books) -> None:
    event = books.told("delivered", EventType.ORDER_SHIPPED)["event_id"]
    (row,) = (row for row in books.tables["event_deliveries"] if row["event_id"] == event)
    row["was_taken"] = False


@plants("notification-withheld", id_of("declined", EventType.ORDER_FAILED),
        notifications.nothing_wanted_is_withheld)  # fmt: skip
def _a_wish_is_ignored(books: Books) -> None:
    row = books.notice("declined", EventType.ORDER_FAILED, Channel.EMAIL)
    row["state"], row["reason"] = "Skipped", "NotWanted"


@plants("notification-withheld", id_of("declined", EventType.ORDER_FAILED),
        notifications.nothing_wanted_is_withheld)  # fmt: skip
def _a_confirmed_address_counts_as_unconfirmed(books: Books) -> None:
    row = books.notice("declined", EventType.ORDER_FAILED, Channel.EMAIL)
    row["state"], row["reason"] = "Skipped", "NotConfirmed"


@plants("notification-unconfirmed", id_of("shipped", EventType.ORDER_SHIPPED),
        notifications.nothing_goes_to_an_unconfirmed_address)  # fmt: skip
def _an_sms_goes_to_a_number_that_nobody_confirmed(books: Books) -> None:
    books.notice("shipped", EventType.ORDER_SHIPPED, Channel.SMS)["customer"] = "u-unconfirmed"
    (customer,) = books.tables["users"]
    books.tables["users"].append(customer | {"id": "u-unconfirmed", "has_phone": False})


@plants("message-repeated", str(LOST), notifications.messages_go_out_once)
def _a_link_goes_out_twice(books: Books) -> None:
    books.tables["account_messages"].append(
        {"id": LOST, "channel": "email", "kind": "PasswordReset", "state": "Sent", "unknown_attempts": 0}
    )
    books.outgoing[Channel.EMAIL] += [str(LOST), str(LOST)]


@plants("message-lost", id_of("delivered", EventType.ORDER_DELIVERED), notifications.messages_go_out_once)
def _the_mail_server_has_nothing(books: Books) -> None:
    books.outgoing[Channel.EMAIL].remove(id_of("delivered", EventType.ORDER_DELIVERED))


@plants("message-repeated", id_of("delivered", EventType.ORDER_CREATED), notifications.messages_go_out_once)
def _a_mail_goes_out_twice(books: Books) -> None:
    books.outgoing[Channel.EMAIL].append(id_of("delivered", EventType.ORDER_CREATED))


@plants("message-repeated", id_of("shipped", EventType.ORDER_SHIPPED), notifications.messages_go_out_once)
def _an_sms_in_doubt_goes_out_twice(books: Books) -> None:
    row = books.notice("shipped", EventType.ORDER_SHIPPED, Channel.SMS)
    row["unknown_attempts"] = 1
    books.outgoing[Channel.SMS].append(row["event_id"].hex[:12])


@plants("message-repeated", id_of("refunded", EventType.PAYMENT_REFUNDED), notifications.messages_go_out_once)
def _what_was_skipped_went_out(books: Books) -> None:
    row = books.notice("refunded", EventType.PAYMENT_REFUNDED, Channel.EMAIL)
    row["state"], row["reason"] = "Skipped", "NoAddress"


@plants("message-stray", str(LOST), notifications.messages_go_out_once)
def _somebody_is_told_what_never_happened(books: Books) -> None:
    books.outgoing[Channel.EMAIL].append(str(LOST))


@plants("notification-order", id_of("shipped", EventType.ORDER_SHIPPED),
        notifications.messages_keep_their_order)  # fmt: skip
def _the_confirmation_comes_last(books: Books) -> None:
    books.notice("shipped", EventType.ORDER_CREATED, Channel.EMAIL)["ended_at"] = NOW


def test_a_mail_in_doubt_may_be_there_once_more() -> None:
    books = clean_books()
    row = books.notice("delivered", EventType.ORDER_CREATED, Channel.EMAIL)
    row["unknown_attempts"] = 1
    books.outgoing[Channel.EMAIL].append(str(row["event_id"]))
    assert judge(books.snapshot()).is_clean
    books.outgoing[Channel.EMAIL].append(str(row["event_id"]))
    assert not judge(books.snapshot()).is_clean


@pytest.mark.parametrize(
    ("state", "unknown_attempts"), [("Waiting", 0), ("Waiting", 1), ("Dead", 1), ("Superseded", 0)]
)
def test_what_visibly_did_not_go_out_is_no_violation(state: str, unknown_attempts: int) -> None:
    books = clean_books()
    row = books.notice("delivered", EventType.ORDER_CREATED, Channel.EMAIL)
    row |= {"state": state, "unknown_attempts": unknown_attempts}
    books.outgoing[Channel.EMAIL].remove(str(row["event_id"]))
    assert judge(books.snapshot()).is_clean


def test_a_profile_that_has_changed_since_says_nothing() -> None:
    books = clean_books()
    _a_wish_is_ignored(books)
    books.outgoing[Channel.EMAIL].remove(id_of("declined", EventType.ORDER_FAILED))
    books.tables["users"][0]["updated_at"] = NOW
    assert judge(books.snapshot()).is_clean


def test_who_has_no_account_is_told_nothing() -> None:
    books = clean_books()
    _a_customer_is_forgotten(books)
    books.tables["users"][0]["deleted_at"] = NOW
    assert judge(books.snapshot()).is_clean


def test_an_event_that_was_only_just_published_may_be_unread() -> None:
    books = clean_books()
    _a_customer_is_forgotten(books)
    books.told("shipped", EventType.ORDER_SHIPPED)["published_at"] = NOW - timedelta(seconds=1)
    assert judge(books.snapshot()).is_clean


def test_channels_that_cannot_be_looked_into_are_left_out() -> None:
    snapshot = replace(clean_books().snapshot(), outgoing={})
    assert judge(snapshot).is_clean


def test_clean_books_have_no_violation() -> None:
    found = judge(clean_books().snapshot())
    assert found.violations == ()
    assert found.is_clean
    assert found.open == (f"{SHOP}/in-flight",)
    assert found.counts == {
        "orders": 10, "events": 59, "intents": 11, "refunds": 6, "disputes": 1, "labels": 6, "messages": 59,
        "notifications": 38,
    }  # fmt: skip
    assert found.notices == ()


@pytest.mark.parametrize(
    ("name", "subject", "invariant", "plant"),
    PLANTED,
    ids=[plant.__name__.strip("_") for *_, plant in PLANTED],
)
def test_a_planted_violation_is_named(name: str, subject: str, invariant: Invariant, plant: Plant) -> None:
    books = clean_books()
    plant(books)
    assert (name, subject) in {(found.invariant, found.subject) for found in invariant(books.snapshot())}
    found = judge(books.snapshot())
    assert not found.is_clean
    assert (name, subject) in {(violation.invariant, violation.subject) for violation in found.violations}


def test_every_invariant_has_a_planted_violation() -> None:
    assert {invariant for _, _, invariant, _ in PLANTED} == set(INVARIANTS)


def test_every_violation_that_can_be_named_is_planted() -> None:
    folder = Path(verdict.__file__).parent
    named = {
        name
        for file in folder.glob("*.py")
        for name in findall(r'Violation\(\s*"([a-z-]+)"', file.read_text())
    }
    assert named == {name for name, *_ in PLANTED}


def test_what_a_merchant_refunds_of_a_delivered_order_is_a_notice() -> None:
    books = clean_books()
    refund = replace(books.refunds["re_voided"], id="re_other", reference="", intent_id="pi_delivered")
    books.refunds["re_other"] = replace(refund, amount=1000)
    books.disputes["du_new"] = Dispute("du_new", "pi_shipped", DisputeState.OPEN, TOTAL, "EUR")
    books.disputes["du_lost"] = Dispute("du_lost", "pi_shipped", DisputeState.LOST, TOTAL, "EUR")
    found = judge(books.snapshot())
    assert found.is_clean
    assert found.notices == (
        Notice(
            f"{SHOP}/delivered",
            "refund re_other of 10.00 EUR, Succeeded at the provider; the order is Delivered",
        ),
        Notice(f"{SHOP}/shipped", "dispute du_lost of 25.00 EUR, Lost at the provider; the order is Shipped"),
        Notice(f"{SHOP}/shipped", "dispute du_new of 25.00 EUR, Open at the provider; answer it there"),
    )


@pytest.mark.parametrize("state", [DisputeState.INQUIRY, DisputeState.WON])
def test_a_dispute_that_takes_nothing_is_not_worth_a_word(state: DisputeState) -> None:
    books = clean_books()
    books.disputes["du_1"] = Dispute("du_1", "pi_refunded", state, TOTAL, "EUR")
    found = judge(books.snapshot())
    assert (found.is_clean, found.notices) == (True, ())


def test_a_withdrawal_of_an_order_under_way_is_not_judged_yet() -> None:
    books = clean_books()
    refund = replace(books.refunds["re_voided"], id="re_other", reference="", intent_id="pi_in-flight")
    books.refunds["re_other"] = refund
    assert judge(books.snapshot()).is_clean


def test_a_dispute_for_more_than_the_charge_took_the_charge() -> None:
    books = clean_books()
    books.disputes["du_charged-back"] = replace(books.disputes["du_charged-back"], amount=TOTAL + 7)
    assert judge(books.snapshot()).is_clean


def test_a_label_that_a_person_saw_to_may_be_valid_at_the_carrier() -> None:
    books = clean_books()
    books.parcels["shp_voided"] = replace(books.parcels["shp_voided"], void=VoidState.REJECTED)
    books.row("shipments", "voided")["void_state"] = "SettledByHand"
    assert judge(books.snapshot()).violations == ()


def test_a_label_that_was_taken_back_shows_as_cancelled() -> None:
    books = clean_books()
    books.parcels["shp_voided"] = replace(
        books.parcels["shp_voided"], tracking_status=TrackingStatus.CANCELLED
    )
    assert judge(books.snapshot()).violations == ()


@pytest.mark.parametrize("void", [VoidState.REJECTED, VoidState.SUBMITTED])
def test_a_parcel_that_left_has_its_label_whatever_became_of_a_void(void: VoidState) -> None:
    books = clean_books()
    books.parcels["shp_shipped"] = replace(
        books.parcels["shp_shipped"], void=void, tracking_status=TrackingStatus.IN_TRANSIT
    )
    assert judge(books.snapshot()).violations == ()


def test_an_order_too_young_for_a_gate_is_open() -> None:
    books = clean_books()
    young = {"namespace": SHOP, "name": "young", "uid": str(uuid4())}
    books.resources[Kind.ORDER].append({"metadata": young, "spec": {}})
    found = judge(books.snapshot())
    assert found.is_clean
    assert f"{SHOP}/young" in found.open


def test_a_deletion_that_says_why_may_take_its_time() -> None:
    books = clean_books()
    _a_deletion_hangs(books)
    books.live(Kind.PAYMENT, "in-flight")["status"]["conditions"] = [
        {"type": "Refunded", "status": "False", "reason": "GatewayUnavailable"}
    ]
    assert judge(books.snapshot()).is_clean


def test_goods_lost_in_a_recount_after_they_left_are_committed_once() -> None:
    books = clean_books()
    (commit,) = (
        row
        for row in books.tables["stock_movements"]
        if row["holder"] == uid_of("shipped") and row["kind"] == "Commit"
    )
    # The recount takes the goods off the shelf, then the carrier's scan shows that they had left.
    commit |= {"kind": "Lose", "on_hand_delta": 0}
    books.tables["stock_movements"].append(
        {**commit, "kind": "Recount", "holder": None, "on_hand_delta": -2, "reserved_delta": 0, "note": "few"}
    )
    names = {violation.invariant for violation in judge(books.snapshot()).violations}
    # Only that the books of this test never told of the loss.
    assert names == {"event-count"}


def test_topics_may_forget_what_is_old() -> None:
    books = clean_books()
    row = books.told("shipped", EventType.ORDER_CREATED)
    del books.messages[books.message("shipped", EventType.ORDER_CREATED)]
    row["at"] = NOW - timedelta(days=8)
    assert judge(books.snapshot()).is_clean


def test_without_kafka_the_topics_are_left_out() -> None:
    assert judge(replace(clean_books().snapshot(), messages=None)).is_clean


def test_what_an_endpoint_did_not_subscribe_to_has_no_delivery() -> None:
    """It came before the subscription, is too old to be kept, or the endpoint is gone."""
    for change in (
        {"subscribed_at": NOW + timedelta(seconds=1)}, {"deleted_at": NOW}, {"merchant": "another"},
    ):  # fmt: skip
        books = clean_books()
        books.tables["event_deliveries"].clear()
        assert not judge(books.snapshot()).is_clean
        books.tables["webhook_endpoints"][0] |= change
        assert judge(books.snapshot()).is_clean
    books = clean_books()
    books.tables["event_deliveries"].clear()
    for event in books.tables["history"]:
        event["at"] -= timedelta(days=30)
    assert "delivery-missing" not in {each.invariant for each in judge(books.snapshot()).violations}
