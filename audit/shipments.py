"""Shipments: one valid label where the goods have left, none where they have not."""

from collections import defaultdict
from collections.abc import Iterator

from orderplane.audit.snapshot import Snapshot, Violation
from orderplane.ledgers.states import GOODS_LEFT, ShipmentState, VoidState


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
        if row["state"] not in (ShipmentState.BOUGHT, ShipmentState.VOIDED):
            continue
        found = at_carrier.get(provider_id)
        if found is None or found.label is None:
            yield Violation("label-missing", provider_id, f"{row['state']} in the ledger, no label there")
        elif row["state"] == ShipmentState.VOIDED and found.void is VoidState.NONE:
            yield Violation("label-void", provider_id, "Voided in the ledger, alive at the carrier")


def orders_have_one_label(snapshot: Snapshot) -> Iterator[Violation]:
    """Exactly one valid label where the goods have left, none where the order was compensated."""
    live: dict[str, list[str]] = defaultdict(list)
    for parcel in snapshot.parcels:
        if parcel.label is not None and parcel.void is VoidState.NONE:
            live[parcel.reference].append(parcel.label.tracking_code)
    for order in snapshot.tables["orders"]:
        codes = live[str(order["uid"])]
        subject = f"{order['merchant']}/{order['name']}"
        if order["outcome"] in GOODS_LEFT and len(codes) != 1:
            yield Violation(
                "one-label", subject, f"{order['outcome']} with {len(codes)} live labels: {codes}"
            )
        if order["outcome"] is not None and order["outcome"] not in GOODS_LEFT and codes:
            yield Violation("no-label", subject, f"{order['outcome']} with live labels: {codes}")
