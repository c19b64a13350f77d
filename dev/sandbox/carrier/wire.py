"""EasyPost's wire: JSON in and out.

Source of the shapes: https://docs.easypost.com/docs (shipments, trackers, batches, pickups, errors).
"""

from datetime import UTC, datetime
from typing import Any

import orjson

from orderplane.dev.sandbox.carrier.shipments import (
    CARRIER,
    CENTS,
    SERVICE,
    Batch,
    Pickup,
    Rate,
    Shipment,
    Timing,
    history,
    rates,
    tracking_status,
    void_status,
)
from orderplane.dev.sandbox.exchange import Reply


def answer(document: Any, status: int = 200) -> Reply:
    """A JSON reply."""
    return Reply(status, orjson.dumps(document))


def error(status: int, code: str, message: str) -> Reply:
    """https://docs.easypost.com/docs/errors"""
    return answer({"error": {"code": code, "message": message, "errors": []}}, status)


class Dialect:
    """EasyPost's general errors."""

    id_header = "X-EP-Request-UUID"

    def unauthorized(self) -> Reply:
        """401."""
        return error(401, "APIKEY.INACTIVE", "This api key is no longer active.")

    def too_many(self) -> Reply:
        """429."""
        return error(429, "RATE_LIMITED", "The request was rate-limited.")

    def broken(self) -> Reply:
        """500."""
        return error(500, "INTERNAL_SERVER_ERROR", "We're sorry, something went wrong.")


def shipment_document(shipment: Shipment, now: float, timing: Timing) -> dict[str, Any]:
    """https://docs.easypost.com/docs/shipments"""
    offered = {rate.id: _rate_document(rate, shipment) for rate in rates(shipment)}
    selected = offered[shipment.rate] if shipment.rate and "Ghost" not in shipment.street else None
    if selected is not None and "Peso" in shipment.street:
        selected = {**selected, "currency": "PHP"}
    is_bought = shipment.bought is not None
    return {
        "id": shipment.id,
        "object": "Shipment",
        "mode": "test",
        "created_at": moment(shipment.created),
        "updated_at": moment(shipment.voided or shipment.bought or shipment.created),
        "reference": shipment.reference,
        "status": tracking_status(shipment, now, timing),
        "is_return": False,
        "options": shipment.options,
        "messages": [],
        "to_address": {"id": f"adr_{shipment.id[4:]}", "object": "Address", **shipment.to_address},
        "from_address": {"id": f"adr_{shipment.id[4:-1]}f", "object": "Address", **shipment.from_address},
        "parcel": {"id": f"prcl_{shipment.id[4:]}", "object": "Parcel", **shipment.parcel},
        "rates": list(offered.values()),
        "selected_rate": selected,
        "postage_label": _label_document(shipment) if is_bought else None,
        "tracking_code": shipment.tracking_code if is_bought else None,
        "tracker": tracker_document(shipment, now, timing) if is_bought else None,
        "refund_status": void_status(shipment, now, timing),
        "insurance": None,
        "batch_id": None,
    }


def tracker_document(shipment: Shipment, now: float, timing: Timing) -> dict[str, Any]:
    """https://docs.easypost.com/docs/trackers, of a bought shipment."""
    scans = history(shipment, now, timing)
    status, at = scans[-1]
    is_bare = "Ghost" in shipment.street
    public_url = {} if is_bare else {"public_url": f"https://track.easypost.com/{shipment.tracker_id}"}
    return {
        "id": shipment.tracker_id,
        "object": "Tracker",
        "mode": "test",
        "tracking_code": shipment.tracking_code,
        "status": status,
        "shipment_id": shipment.id,
        "carrier": CARRIER,
        "created_at": moment(scans[0][1]),
        "updated_at": moment(at),
        **public_url,
        "tracking_details": [
            {"object": "TrackingDetail", "status": status, "source": CARRIER}
            | ({} if is_bare else {"datetime": moment(at)})
            for status, at in scans
        ],
    }


def batch_document(batch: Batch) -> dict[str, Any]:
    """https://docs.easypost.com/docs/batches"""
    return {
        "id": batch.id,
        "object": "Batch",
        "mode": "test",
        "state": "created",
        "reference": batch.reference,
        "num_shipments": len(batch.shipments),
        "shipments": [
            {"id": id_, "batch_status": "postage_purchased", "batch_message": None} for id_ in batch.shipments
        ],
        "created_at": moment(batch.created),
    }


def pickup_document(pickup: Pickup) -> dict[str, Any]:
    """https://docs.easypost.com/docs/pickups"""
    return {
        "id": pickup.id,
        "object": "Pickup",
        "mode": "test",
        "reference": pickup.reference,
        "status": "scheduled" if pickup.confirmation else "unknown",
        "min_datetime": pickup.window[0],
        "max_datetime": pickup.window[1],
        "confirmation": pickup.confirmation,
        "messages": [],
        "pickup_rates": [
            {
                "id": f"pickuprate_{pickup.id[7:]}",
                "object": "PickupRate",
                "pickup_id": pickup.id,
                "carrier": CARRIER,
                "service": SERVICE,
                "rate": _dollars(CENTS),
                "currency": "USD",
            }
        ],
        "created_at": moment(pickup.created),
    }


def moment(at: float) -> str:
    """RFC 3339, in whole seconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _rate_document(rate: Rate, shipment: Shipment) -> dict[str, Any]:
    return {
        "id": rate.id,
        "object": "Rate",
        "shipment_id": shipment.id,
        "carrier": CARRIER,
        "service": rate.service,
        "rate": _dollars(rate.cents),
        "currency": "AED" if "Bazaar" in shipment.street and rate.service == "GroundSaver" else "USD",
        "delivery_days": rate.days,
    }


def _label_document(shipment: Shipment) -> dict[str, Any]:
    return {
        "id": f"pl_{shipment.id[4:]}",
        "object": "PostageLabel",
        "label_size": "4x6",
        "label_url": f"https://labels.example/{shipment.tracking_code}.png",
    }


def _dollars(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"
