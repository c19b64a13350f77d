"""Stock: nothing is promised twice, nothing vanishes, nothing comes from nowhere."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from orderplane.audit.snapshot import Snapshot, Violation

LATE = timedelta(seconds=120)
"""How long an expired hold may wait for the controller that releases it."""


def stock_balances(snapshot: Snapshot) -> Iterator[Violation]:
    """on_hand = opening + movements, and it is never negative."""
    moved: dict[tuple[str, str], int] = defaultdict(int)
    for row in snapshot.tables["stock_movements"]:
        moved[row["merchant"], row["sku"]] += row["on_hand_delta"]
    counted = {(row["merchant"], row["sku"]) for row in snapshot.tables["stock"]}
    for merchant, sku in moved.keys() - counted:
        yield Violation("stock-balance", f"{merchant}/{sku}", "has movements, but no stock")
    for row in snapshot.tables["stock"]:
        expected = row["opening"] + moved[row["merchant"], row["sku"]]
        subject = f"{row['merchant']}/{row['sku']}"
        if row["on_hand"] != expected:
            yield Violation(
                "stock-balance",
                subject,
                f"{row['on_hand']} on hand, but opening and movements give {expected}",
            )
        if row["on_hand"] < 0 or row["reserved"] < 0:
            yield Violation(
                "stock-negative", subject, f"on hand {row['on_hand']}, reserved {row['reserved']}"
            )
        if row["reserved"] > row["on_hand"]:
            yield Violation(
                "stock-oversold", subject, f"{row['reserved']} reserved of {row['on_hand']} on hand"
            )


def reservations_match_stock(snapshot: Snapshot) -> Iterator[Violation]:
    """reserved = the sum of what is Held and Pinned = the sum of its movements."""
    state = {(row["merchant"], row["holder"]): row["state"] for row in snapshot.tables["reservations"]}
    kept: dict[tuple[str, str], int] = defaultdict(int)
    for row in snapshot.tables["reservation_lines"]:
        if state[row["merchant"], row["holder"]] in ("Held", "Pinned"):
            kept[row["merchant"], row["sku"]] += row["quantity"]
    moved: dict[tuple[str, str], int] = defaultdict(int)
    for row in snapshot.tables["stock_movements"]:
        moved[row["merchant"], row["sku"]] += row["reserved_delta"]
    for row in snapshot.tables["stock"]:
        key = row["merchant"], row["sku"]
        if row["reserved"] != kept[key]:
            yield Violation(
                "reserved-matches",
                "/".join(key),
                f"{row['reserved']} reserved, but reservations hold {kept[key]}",
            )
        if row["reserved"] != moved[key]:
            yield Violation(
                "reserved-movements",
                "/".join(key),
                f"{row['reserved']} reserved, but movements give {moved[key]}",
            )


def movements_match_reservations(snapshot: Snapshot) -> Iterator[Violation]:
    """Each line of a reservation has moved just what its state calls for, once."""
    moved: dict[tuple[str, UUID, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for row in snapshot.tables["stock_movements"]:
        if row["holder"] is not None:
            key = row["merchant"], row["holder"], row["sku"]
            on_hand, reserved = moved[key]
            moved[key] = on_hand + row["on_hand_delta"], reserved + row["reserved_delta"]
    lost = snapshot.lost()
    reservations = {(row["merchant"], row["holder"]): row for row in snapshot.tables["reservations"]}
    for line in snapshot.tables["reservation_lines"]:
        row = reservations[line["merchant"], line["holder"]]
        is_kept = row["state"] in ("Held", "Pinned")
        # What a recount took off the shelf before it was seen to have left cannot be taken off again.
        has_left = row["state"] == "Committed" and row["holder"] not in lost
        expected = -line["quantity"] * has_left, line["quantity"] * is_kept
        found = moved.pop((line["merchant"], line["holder"], line["sku"]), (0, 0))
        if found != expected:
            yield Violation(
                "reservation-moved",
                f"{row['merchant']}/{row['name']}",
                f"{row['state']}: on hand and reserved of {line['sku']} moved by {found}, not {expected}",
            )
    for merchant, holder, sku in moved:
        yield Violation("reservation-moved", f"{merchant}/{holder}", f"moved {sku} without a reservation")


def corrections_move_the_shelf_alone(snapshot: Snapshot) -> Iterator[Violation]:
    """A recount or an adjustment changes what is on hand, for a reason, and nothing that is kept; and nothing
    else moves stock without a reservation."""
    for row in snapshot.tables["stock_movements"]:
        is_correction = row["kind"] in ("Recount", "Adjust")
        is_reasoned = row["note"] is not None and row["reserved_delta"] == 0
        if is_correction != (row["holder"] is None) or (is_correction and not is_reasoned):
            yield Violation(
                "stock-correction",
                f"{row['merchant']}/{row['sku']}",
                f"{row['kind']} by {row['on_hand_delta']} on hand and {row['reserved_delta']} reserved, "
                f"reservation: {row['holder']}, reason: {row['note']}",
            )


def orders_have_their_stock(snapshot: Snapshot) -> Iterator[Violation]:
    """Committed where the goods left, given back where the order was undone."""
    reservations = snapshot.of_order("reservations", "order_uid")
    for order in snapshot.tables["orders"]:
        row = reservations.get(str(order["uid"]))
        state = row["state"] if row else None
        subject = f"{order['merchant']}/{order['name']}"
        if order["outcome"] in ("Shipped", "Delivered") and state != "Committed":
            yield Violation(
                "stock-committed", subject, f"{order['outcome']}, but its stock is {state or 'not there'}"
            )
        if order["outcome"] in ("Failed", "Cancelled") and state in ("Held", "Pinned", "Committed"):
            yield Violation("stock-released", subject, f"{order['outcome']}, but its stock is still {state}")


def no_hold_outlives_its_time(snapshot: Snapshot) -> Iterator[Violation]:
    """What nobody began to pay for is given back when its time is over."""
    for row in snapshot.tables["reservations"]:
        if row["state"] == "Held" and snapshot.taken_at - row["expires_at"] > LATE:
            yield Violation(
                "hold-expired", f"{row['merchant']}/{row['name']}", f"Held, expired at {row['expires_at']}"
            )


def nothing_moves_after_the_end(snapshot: Snapshot) -> Iterator[Violation]:
    """A sealed order's stock does not move any more."""
    sealed = {row["uid"]: row for row in snapshot.tables["orders"] if row["sealed_at"]}
    for row in snapshot.tables["stock_movements"]:
        order = sealed.get(row["holder"])
        if order is not None and row["at"] > order["sealed_at"]:
            yield Violation(
                "stock-after-seal",
                f"{order['merchant']}/{order['name']}",
                f"{row['kind']} of {row['sku']} at {row['at']}, sealed at {order['sealed_at']}",
            )
