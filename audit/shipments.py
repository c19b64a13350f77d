"""Shipments: one valid label where the goods have left, none where they have not, and no parcel without its
order."""

from collections import defaultdict
from collections.abc import Iterator

from orderplane.audit.snapshot import Snapshot, Violation
from orderplane.ledgers.states import (
    GOODS_LEFT,
    LABEL_ALIVE,
    STILL_VALID,
    ShipmentState,
    TrackingStatus,
    VoidState,
)

_TAKEN_BACK = frozenset({ShipmentState.VOIDED, ShipmentState.DISCARDED})


def labels_match_the_ledger(snapshot: Snapshot) -> Iterator[Violation]:
    """Every label is in the ledger, and every label of the ledger is at the carrier."""
    by_provider = {row["provider_id"]: row for row in snapshot.tables["shipments"] if row["provider_id"]}
    at_carrier = {parcel.id: parcel for parcel in snapshot.parcels}
    for parcel in snapshot.parcels:
        if parcel.label is None:
            continue
        row = by_provider.get(parcel.id)
        if row is not None and parcel.reference != str(row["order_uid"]):
            yield Violation(
                "label-order",
                parcel.id,
                f"for order {parcel.reference} at the carrier, for {row['order_uid']} in the ledger",
            )
        if row is not None and row["tracking_code"] is None and snapshot.is_unsealed(str(row["order_uid"])):
            # The answer of the purchase was lost; the carrier will be asked again.
            continue
        if row is None or row["tracking_code"] is None:
            yield Violation(
                "label-unknown",
                parcel.id,
                f"label {parcel.label.tracking_code} was bought for order {parcel.reference}, "
                "the ledger does not know it",
            )
        elif row["tracking_code"] != parcel.label.tracking_code:
            yield Violation(
                "label-code",
                parcel.id,
                f"{parcel.label.tracking_code} at the carrier, {row['tracking_code']} in the ledger",
            )
    for provider_id, row in by_provider.items():
        if row["state"] not in LABEL_ALIVE | _TAKEN_BACK:
            continue
        found = at_carrier.get(provider_id)
        if found is None or found.label is None:
            yield Violation("label-missing", provider_id, f"{row['state']} in the ledger, no label there")
        elif (
            row["state"] in _TAKEN_BACK
            and row["void_state"] != VoidState.SETTLED_BY_HAND
            and found.void in STILL_VALID
        ):
            yield Violation(
                "label-void",
                provider_id,
                f"{row['state']} in the ledger, valid at the carrier: its void is {found.void}",
            )


def orders_have_one_label(snapshot: Snapshot) -> Iterator[Violation]:
    """Exactly one valid label where the goods have left; none, and no parcel, where the order was undone."""
    by_hand = {
        row["provider_id"]
        for row in snapshot.tables["shipments"]
        if row["void_state"] == VoidState.SETTLED_BY_HAND
    }
    live: dict[str, list[str]] = defaultdict(list)
    travelling: dict[str, list[str]] = defaultdict(list)
    for parcel in snapshot.parcels:
        if parcel.label is None:
            continue
        is_valid = parcel.void in STILL_VALID
        # After an accepted void the tracker says so; the label does not travel.
        has_left = parcel.tracking_status is not TrackingStatus.PRE_TRANSIT and (
            is_valid or parcel.tracking_status is not TrackingStatus.CANCELLED
        )
        if has_left:
            travelling[parcel.reference].append(parcel.label.tracking_code)
        if has_left or (is_valid and parcel.id not in by_hand):
            live[parcel.reference].append(parcel.label.tracking_code)
    for order in snapshot.tables["orders"]:
        codes, gone = live[str(order["uid"])], travelling[str(order["uid"])]
        subject = f"{order['merchant']}/{order['name']}"
        if order["outcome"] is None:
            continue
        if order["outcome"] in GOODS_LEFT:
            if len(codes) != 1:
                yield Violation(
                    "one-label", subject, f"{order['outcome']} with {len(codes)} live labels: {codes}"
                )
            continue
        if codes:
            yield Violation("no-label", subject, f"{order['outcome']} with live labels: {codes}")
        if gone:
            yield Violation("parcel-travels", subject, f"{order['outcome']}, but on their way: {gone}")
