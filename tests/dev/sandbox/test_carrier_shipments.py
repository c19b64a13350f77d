"""The rules of labels, voids and tracking, as tables."""

from dataclasses import replace

import pytest

from orderplane.dev.sandbox.carrier import shipments
from orderplane.dev.sandbox.carrier.shipments import CarrierRefusal, Shipment, Timing, TrackingStatus, Void

NOW = 1_000.0
PACE = Timing(transit=10, delivery=5, refund=3)


def shipment(street="Main Street 1"):
    return Shipment("shp_" + "0" * 32, 900.0, "o-1", {"street1": street}, {}, {"weight": 40.0})


def bought(street="Main Street 1"):
    made = shipment(street)
    return shipments.buy(made, shipments.rates(made)[0].id, NOW)


def test_rates_are_stable_and_grow_with_the_weight():
    made = shipment()
    assert shipments.rates(made) == shipments.rates(made)
    heavy = replace(made, parcel={"weight": 80.0})
    assert all(h.cents > m.cents for h, m in zip(shipments.rates(heavy), shipments.rates(made), strict=True))


@pytest.mark.parametrize(
    ("made", "rate", "code"),
    [
        (bought(), shipments.rates(shipment())[0].id, "SHIPMENT.POSTAGE.EXISTS"),
        (shipment(), "rate_of_another", "SHIPMENT.RATE.UNAVAILABLE"),
        (shipment("Island 1"), shipments.rates(shipment())[0].id, "SHIPMENT.POSTAGE.FAILURE"),
    ],
)
def test_a_label_is_refused(made, rate, code):
    with pytest.raises(CarrierRefusal) as no:
        shipments.buy(made, rate, NOW)
    assert no.value.code == code


@pytest.mark.parametrize(
    ("after", "where"),
    [
        (0, TrackingStatus.PRE_TRANSIT),
        (9.9, TrackingStatus.PRE_TRANSIT),
        (10, TrackingStatus.IN_TRANSIT),
        (14.9, TrackingStatus.IN_TRANSIT),
        (15, TrackingStatus.DELIVERED),
        (9999, TrackingStatus.DELIVERED),
    ],
)
def test_a_parcel_moves_by_the_clock(after, where):
    assert shipments.tracking_status(bought(), NOW + after, PACE) is where
    assert shipments.tracking_status(shipment(), NOW + after, PACE) is TrackingStatus.UNKNOWN


@pytest.mark.parametrize(
    ("street", "after", "answer", "later"),
    [
        ("Main Street 1", 1, Void.SUBMITTED, TrackingStatus.PRE_TRANSIT),
        ("Main Street 1", 10, Void.REJECTED, TrackingStatus.DELIVERED),
        ("Lighthouse 1", 1, Void.REJECTED, TrackingStatus.DELIVERED),
        ("Harbour 1", 1, Void.NOT_APPLICABLE, TrackingStatus.PRE_TRANSIT),
        ("Harbour 1", 10, Void.REJECTED, TrackingStatus.DELIVERED),
    ],
)
def test_a_void_is_answered_and_a_dead_label_never_moves(street, after, answer, later):
    voided = shipments.void(bought(street), NOW + after, PACE)
    assert voided.void is answer
    assert shipments.tracking_status(voided, NOW + 9999, PACE) is later


def test_a_submitted_void_is_refunded_later_and_stays():
    voided = shipments.void(bought(), NOW, PACE)
    assert shipments.void_status(voided, NOW + 2.9, PACE) is Void.SUBMITTED
    assert shipments.void_status(voided, NOW + 3, PACE) is Void.REFUNDED
    assert shipments.void(voided, NOW + 50, PACE) == voided


def test_there_is_nothing_to_void_without_a_label():
    with pytest.raises(CarrierRefusal):
        shipments.void(shipment(), NOW, PACE)


def test_a_forced_scan_wins_over_the_clock_from_then_on():
    forced = shipments.scan(bought(), TrackingStatus.RETURN_TO_SENDER, NOW + 12)
    assert shipments.tracking_status(forced, NOW + 11, PACE) is TrackingStatus.IN_TRANSIT
    assert shipments.tracking_status(forced, NOW + 9999, PACE) is TrackingStatus.RETURN_TO_SENDER
    with pytest.raises(CarrierRefusal):
        shipments.scan(shipment(), TrackingStatus.IN_TRANSIT, NOW)


def test_a_pickup_is_booked_once():
    pickup = shipments.Pickup("pickup_0123456789abcdef", NOW, "b-1", ("shp_1",), ("a", "b"))
    booked = shipments.book(pickup, shipments.CARRIER, shipments.SERVICE)
    assert booked.confirmation
    for again, carrier in ((booked, shipments.CARRIER), (pickup, "Another")):
        with pytest.raises(CarrierRefusal):
            shipments.book(again, carrier, shipments.SERVICE)
