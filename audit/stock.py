"""Stock and reservations: nothing is reserved twice, and every change of a quantity is explained."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from orderplane.audit.snapshot import OrderRow, ReservationRow, Snapshot, Violation
from orderplane.crds.meta import Kind
from orderplane.ledgers.states import (
    CORRECTIONS,
    GOODS_LEFT,
    RESERVING,
    ReservationState,
    StockMovementKind,
)

LATE = timedelta(seconds=120)
"""How long an expired reservation may wait for the controller that releases it."""


def stock_balances(snapshot: Snapshot) -> Iterator[Violation]:
    """on_hand = opening + movements, and it is never negative."""
    moved: dict[tuple[str, str], int] = defaultdict(int)
    for movement in snapshot.tables["stock_movements"]:
        moved[movement["merchant"], movement["sku"]] += movement["on_hand_delta"]
    counted = {(row["merchant"], row["sku"]) for row in snapshot.tables["stock"]}
    for merchant, sku in moved.keys() - counted:
        yield Violation("stock-balance", f"{merchant}/{sku}", "has movements, but no stock")
    for level in snapshot.tables["stock"]:
        expected = level["opening"] + moved[level["merchant"], level["sku"]]
        subject = f"{level['merchant']}/{level['sku']}"
        if level["on_hand"] != expected:
            yield Violation(
                "stock-balance",
                subject,
                f"{level['on_hand']} on hand, but opening and movements give {expected}",
            )
        if level["on_hand"] < 0 or level["reserved"] < 0:
            yield Violation(
                "stock-negative", subject, f"on hand {level['on_hand']}, reserved {level['reserved']}"
            )
        if level["reserved"] > level["on_hand"]:
            yield Violation(
                "stock-oversold", subject, f"{level['reserved']} reserved of {level['on_hand']} on hand"
            )


def reservations_match_stock(snapshot: Snapshot) -> Iterator[Violation]:
    """reserved = the sum of what is Held and Pinned = the sum of its movements."""
    state = {(row["merchant"], row["holder"]): row["state"] for row in snapshot.tables["reservations"]}
    reserved: dict[tuple[str, str], int] = defaultdict(int)
    for line in snapshot.tables["reservation_lines"]:
        if state[line["merchant"], line["holder"]] in RESERVING:
            reserved[line["merchant"], line["sku"]] += line["quantity"]
    moved: dict[tuple[str, str], int] = defaultdict(int)
    for movement in snapshot.tables["stock_movements"]:
        moved[movement["merchant"], movement["sku"]] += movement["reserved_delta"]
    for stock in snapshot.tables["stock"]:
        key = stock["merchant"], stock["sku"]
        if stock["reserved"] != reserved[key]:
            yield Violation(
                "reserved-matches",
                "/".join(key),
                f"{stock['reserved']} reserved, but reservations hold {reserved[key]}",
            )
        if stock["reserved"] != moved[key]:
            yield Violation(
                "reserved-movements",
                "/".join(key),
                f"{stock['reserved']} reserved, but movements give {moved[key]}",
            )


def movements_match_reservations(snapshot: Snapshot) -> Iterator[Violation]:
    """Each line of a reservation has moved the stock exactly as its state and its order's refunds say."""
    moved: dict[tuple[str, UUID, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for movement in snapshot.tables["stock_movements"]:
        if movement["holder"] is not None:
            key = movement["merchant"], movement["holder"], movement["sku"]
            on_hand, reserved = moved[key]
            moved[key] = on_hand + movement["on_hand_delta"], reserved + movement["reserved_delta"]
    lost = snapshot.lost()
    restocked: dict[tuple[UUID, str], int] = defaultdict(int)
    for request in snapshot.tables["refund_requests"]:
        if request["is_restocked"] and request["refund_id"] is not None:
            for sku, quantity in request["lines"].items():
                restocked[request["order_uid"], sku] += quantity
    reservations = {(row["merchant"], row["holder"]): row for row in snapshot.tables["reservations"]}
    for line in snapshot.tables["reservation_lines"]:
        row = reservations[line["merchant"], line["holder"]]
        is_reserving = row["state"] in RESERVING
        # Goods that a recount took before they were seen to have left do not reduce on_hand again.
        has_left = row["state"] == ReservationState.COMMITTED and row["holder"] not in lost
        back = restocked[line["holder"], line["sku"]]
        expected = back - line["quantity"] * has_left, line["quantity"] * is_reserving
        found = moved.pop((line["merchant"], line["holder"], line["sku"]), (0, 0))
        if found != expected:
            yield Violation(
                "reservation-moved",
                f"{row['merchant']}/{row['name']}",
                f"{row['state']}: on hand and reserved of {line['sku']} moved by {found}, not {expected}",
            )
    for merchant, holder, sku in moved:
        yield Violation("reservation-moved", f"{merchant}/{holder}", f"moved {sku} without a reservation")


def corrections_change_on_hand_alone(snapshot: Snapshot) -> Iterator[Violation]:
    """A recount or an adjustment changes on_hand, for a reason, and not what is reserved; no other movement
    is without a reservation."""
    for movement in snapshot.tables["stock_movements"]:
        is_correction = movement["kind"] in CORRECTIONS
        is_reasoned = movement["note"] is not None and movement["reserved_delta"] == 0
        if is_correction != (movement["holder"] is None) or (is_correction and not is_reasoned):
            yield Violation(
                "stock-correction",
                f"{movement['merchant']}/{movement['sku']}",
                f"{movement['kind']} by {movement['on_hand_delta']} on hand "
                f"and {movement['reserved_delta']} reserved, "
                f"reservation: {movement['holder']}, reason: {movement['note']}",
            )


def orders_have_their_stock(snapshot: Snapshot) -> Iterator[Violation]:
    """Committed where the goods left, given back where the order was compensated."""
    reservations = {str(row["order_uid"]): row for row in snapshot.tables["reservations"] if row["order_uid"]}
    for order in snapshot.tables["orders"]:
        row = reservations.get(str(order["uid"]))
        state = row["state"] if row else None
        subject = f"{order['merchant']}/{order['name']}"
        if order["outcome"] in GOODS_LEFT and state != ReservationState.COMMITTED:
            yield Violation(
                "stock-committed", subject, f"{order['outcome']}, but its stock is {state or 'not there'}"
            )
        if (
            order["outcome"] is not None
            and order["outcome"] not in GOODS_LEFT
            and state in (*RESERVING, ReservationState.COMMITTED)
        ):
            yield Violation("stock-released", subject, f"{order['outcome']}, but its stock is still {state}")


def no_hold_outlives_its_expiry(snapshot: Snapshot) -> Iterator[Violation]:
    """A reservation whose payment was not begun is released when it expires."""
    for reservation in snapshot.tables["reservations"]:
        if (
            reservation["state"] == ReservationState.HELD
            and snapshot.taken_at - reservation["expires_at"] > LATE
        ):
            yield Violation(
                "hold-expired",
                f"{reservation['merchant']}/{reservation['name']}",
                f"Held, expired at {reservation['expires_at']}",
            )


def nothing_moves_after_the_end(snapshot: Snapshot) -> Iterator[Violation]:
    """A sealed order's stock does not move any more, but for what comes back after the sale."""
    sold = snapshot.sold()
    orders: dict[UUID | None, OrderRow] = {row["uid"]: row for row in snapshot.tables["orders"]}
    for movement in snapshot.tables["stock_movements"]:
        order = orders.get(movement["holder"])
        sealed_at = order["sealed_at"] if order else None
        # How much comes back is judged with the reservation.
        is_return = movement["kind"] == StockMovementKind.RETURN and movement["holder"] in sold
        if order is not None and sealed_at is not None and movement["at"] > sealed_at and not is_return:
            yield Violation(
                "stock-after-seal",
                f"{order['merchant']}/{order['name']}",
                f"{movement['kind']} of {movement['sku']} at {movement['at']}, sealed at {sealed_at}",
            )


def reservations_are_as_answered(snapshot: Snapshot) -> Iterator[Violation]:
    """A stored 201 stands for a reservation that was held, a stored 409 for one that was rejected."""
    by_name = {(row["merchant"], row["name"]): row["state"] for row in _standalone(snapshot)}
    for key in snapshot.tables["idempotency"]:
        name = key["name"]
        if name is None or key["kind"] != Kind.RESERVATION or key["status"] not in (201, 409):
            continue
        state = by_name.get((key["merchant"], name))
        if state is None or (state == ReservationState.REJECTED) != (key["status"] == 409):
            yield Violation(
                "reservation-answer",
                f"{key['merchant']}/{name}",
                f"answered {key['status']}, but it is {state or 'not in the ledger'}",
            )


def holds_have_their_reservation(snapshot: Snapshot) -> Iterator[Violation]:
    """A held reservation without an order has its live Reservation, by which it can be released."""
    live = {reservation["metadata"]["uid"] for reservation in snapshot.resources[Kind.RESERVATION]}
    for row in _standalone(snapshot):
        if row["state"] == ReservationState.HELD and str(row["holder"]) not in live:
            yield Violation(
                "hold-orphan", f"{row['merchant']}/{row['name']}", "Held, but its Reservation is gone"
            )


def reservations_show_the_ledger(snapshot: Snapshot) -> Iterator[Violation]:
    """The phase of a Reservation without an order is the state in the ledger, Pending where it has none."""
    states = {str(row["holder"]): row["state"] for row in _standalone(snapshot)}
    for reservation in snapshot.resources[Kind.RESERVATION]:
        if reservation["spec"].get("orderRef"):
            continue
        metadata = reservation["metadata"]
        shown = (reservation.get("status") or {}).get("phase", "Pending")
        state = states.get(metadata["uid"], "Pending")
        if shown != state:
            yield Violation(
                "reservation-phase",
                f"{metadata['namespace']}/{metadata['name']}",
                f"{state} in the ledger, but shown as {shown}",
            )


def _standalone(snapshot: Snapshot) -> Iterator[ReservationRow]:
    return (row for row in snapshot.tables["reservations"] if row["order_uid"] is None)
