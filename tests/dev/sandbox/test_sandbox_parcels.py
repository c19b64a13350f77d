"""The rules of labels, voids and tracking, as tables."""

from dataclasses import replace

import pytest

from orderplane.dev.sandbox.carrier import parcels, pickups
from orderplane.dev.sandbox.carrier.parcels import No, Pace, Shipment, Tracked, Void

NOW = 1_000.0
PACE = Pace(transit=10, delivery=5, refund=3)


def shipment(street="Main Street 1"):
    return Shipment("shp_" + "0" * 32, 900.0, "o-1", {"street1": street}, {}, {"weight": 40.0})


def bought(street="Main Street 1"):
    made = shipment(street)
    return parcels.buy(made, parcels.rates(made)[0].id, NOW)


def test_rates_are_stable_and_grow_with_the_weight():
    made = shipment()
    assert parcels.rates(made) == parcels.rates(made)
    heavy = replace(made, parcel={"weight": 80.0})
    assert all(h.cents > m.cents for h, m in zip(parcels.rates(heavy), parcels.rates(made), strict=True))


@pytest.mark.parametrize(
    ("made", "rate", "code"),
    [
        (bought(), parcels.rates(shipment())[0].id, "SHIPMENT.POSTAGE.EXISTS"),
        (shipment(), "rate_of_another", "SHIPMENT.RATE.UNAVAILABLE"),
        (shipment("Island 1"), parcels.rates(shipment())[0].id, "SHIPMENT.POSTAGE.FAILURE"),
    ],
)
def test_a_label_is_refused(made, rate, code):
    with pytest.raises(No) as no:
        parcels.buy(made, rate, NOW)
    assert no.value.code == code


@pytest.mark.parametrize(
    ("after", "where"),
    [
        (0, Tracked.PRE_TRANSIT),
        (9.9, Tracked.PRE_TRANSIT),
        (10, Tracked.IN_TRANSIT),
        (14.9, Tracked.IN_TRANSIT),
        (15, Tracked.DELIVERED),
        (9999, Tracked.DELIVERED),
    ],
)
def test_a_parcel_moves_by_the_clock(after, where):
    assert parcels.tracked(bought(), NOW + after, PACE) is where
    assert parcels.tracked(shipment(), NOW + after, PACE) is Tracked.UNKNOWN


@pytest.mark.parametrize(
    ("street", "after", "answer", "later"),
    [
        ("Main Street 1", 1, Void.SUBMITTED, Tracked.PRE_TRANSIT),
        ("Main Street 1", 10, Void.REJECTED, Tracked.DELIVERED),
        ("Lighthouse 1", 1, Void.REJECTED, Tracked.DELIVERED),
        ("Harbour 1", 1, Void.NOT_APPLICABLE, Tracked.PRE_TRANSIT),
        ("Harbour 1", 10, Void.REJECTED, Tracked.DELIVERED),
    ],
)
def test_a_void_is_answered_and_a_dead_label_never_moves(street, after, answer, later):
    voided = parcels.void(bought(street), NOW + after, PACE)
    assert voided.void is answer
    assert parcels.tracked(voided, NOW + 9999, PACE) is later


def test_a_submitted_void_is_refunded_later_and_stays():
    voided = parcels.void(bought(), NOW, PACE)
    assert parcels.void_status(voided, NOW + 2.9, PACE) is Void.SUBMITTED
    assert parcels.void_status(voided, NOW + 3, PACE) is Void.REFUNDED
    assert parcels.void(voided, NOW + 50, PACE) == voided


def test_there_is_nothing_to_void_without_a_label():
    with pytest.raises(No):
        parcels.void(shipment(), NOW, PACE)


def test_a_forced_scan_wins_over_the_clock_from_then_on():
    forced = parcels.scan(bought(), Tracked.RETURN_TO_SENDER, NOW + 12)
    assert parcels.tracked(forced, NOW + 11, PACE) is Tracked.IN_TRANSIT
    assert parcels.tracked(forced, NOW + 9999, PACE) is Tracked.RETURN_TO_SENDER
    with pytest.raises(No):
        parcels.scan(shipment(), Tracked.IN_TRANSIT, NOW)


def test_a_pickup_is_booked_once():
    pickup = pickups.Pickup("pickup_0123456789abcdef", NOW, "b-1", ("shp_1",), ("a", "b"))
    booked = pickups.book(pickup, pickups.CARRIER, pickups.SERVICE)
    assert booked.confirmation
    for again, carrier in ((booked, pickups.CARRIER), (pickup, "Another")):
        with pytest.raises(No):
            pickups.book(again, carrier, pickups.SERVICE)
