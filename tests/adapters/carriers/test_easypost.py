"""What each exception of EasyPost's SDK means, and how parcels, prices and labels are converted."""

from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import easypost.errors
import pytest
from easypost.easypost_object import convert_to_easypost_object

from orderplane.adapters.carriers.easypost import (
    EasyPostCarrier,
    classify_error,
    parse_shipment,
    parse_tracking_update,
    to_easypost_parcel,
)
from orderplane.adapters.carriers.easypost_rates import Price, choose_rate, read_price
from orderplane.crds.meta import MOST_MINOR
from orderplane.crds.shipment import Parcel, Service
from orderplane.ledgers.errors import Refused, Transient, Unclear
from orderplane.ledgers.states import TrackingStatus, VoidState


def within(problem, context):
    problem.__context__ = context
    return problem


class _Connector(aiohttp.ClientConnectorError):
    def __init__(self):
        pass


def api(status, code=None):
    error = easypost.errors.ApiError("x", http_status=status)
    error.code = code
    return error


@pytest.mark.parametrize(
    ("problem", "expected", "reason"),
    [
        (within(easypost.errors.HttpError("x"), _Connector()), Transient, "CarrierUnavailable"),
        (within(easypost.errors.HttpError("x"), aiohttp.ConnectionTimeoutError()), Transient,
         "CarrierUnavailable"),
        (within(easypost.errors.HttpError("x"), aiohttp.SocketTimeoutError()), Unclear, "CarrierUnclear"),
        (within(easypost.errors.HttpError("x"), TimeoutError()), Unclear, "CarrierUnclear"),
        (within(easypost.errors.HttpError("x"), aiohttp.ServerDisconnectedError()), Unclear,
         "CarrierUnclear"),
        (within(easypost.errors.HttpError("x"), aiohttp.ClientPayloadError()), Unclear, "CarrierUnclear"),
        (easypost.errors.TimeoutError("x", http_status=408), Unclear, "CarrierUnclear"),
        (easypost.errors.JsonError("x"), Unclear, "CarrierUnclear"),
        (api(500), Unclear, "CarrierUnclear"),
        (api(504), Unclear, "CarrierUnclear"),
        (api(429), Transient, "CarrierBusy"),
        (api(401), Transient, "CarrierUnauthorized"),
        (api(402), Transient, "CarrierUnauthorized"),
        (api(422, "ADDRESS.VERIFY.FAILURE"), Refused, "AddressRejected"),
        (api(422, "SHIPMENT.POSTAGE.EXISTS"), Refused, "AlreadyBought"),
        (api(422, "SHIPMENT.POSTAGE.FAILURE"), Refused, "ShipmentRejected"),
        (api(404, "NOT_FOUND"), Refused, "ShipmentRejected"),
    ],
)  # fmt: skip
def test_an_exception_is_classified(problem, expected, reason):
    found = classify_error(problem)
    assert type(found) is expected
    assert found.reason == reason


def test_a_defect_is_not_taken_for_the_carriers_answer():
    assert classify_error(KeyError("ours")) is None


def parcel(weight, *sides):
    length, width, height = sides
    return Parcel(
        weight_grams=weight, length_millimetres=length, width_millimetres=width, height_millimetres=height
    )


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([parcel(1, 1, 1, 1)], {"weight": 0.1, "length": 0.1, "width": 0.1, "height": 0.1}),
        ([parcel(2835, 254, 127, 508)], {"weight": 100.1, "length": 20.0, "width": 10.0, "height": 5.0}),
        (
            [parcel(1000, 254, 127, 508), parcel(1000, 254, 254, 254)],
            {"weight": 70.6, "length": 20.0, "width": 10.0, "height": 15.0},
        ),
    ],
)
def test_boxes_become_one_that_holds_them(boxes, expected):
    assert to_easypost_parcel(boxes) == expected


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("7.58", "EUR", 758),
        ("7.5", "USD", 750),
        ("7", "EUR", 700),
        ("0.05", "EUR", 5),
        ("758", "JPY", 758),
        ("1.234", "KWD", 1234),
        ("1234.567", "EUR", 123456),
    ],
)
def test_rates_become_minor_units(text, currency, minor):
    assert read_price(rate("r", text, currency)) == Price(minor, currency)


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("7.58", "PHP"),
        ("7.58", "AED"),
        ("7.58", None),
        ("NaN", "EUR"),
        ("Infinity", "EUR"),
        ("1e999999999", "EUR"),
        ("-1", "EUR"),
        (str(MOST_MINOR), "EUR"),
        ("free", "EUR"),
        (None, "EUR"),
    ],
)
def test_a_price_that_cannot_be_read_is_none(text, currency):
    assert read_price(rate("r", text, currency)) is None


def rate(id_, text, currency, days=None):
    document = {
        "object": "Rate", "id": id_, "rate": text, "currency": currency, "carrier": "USPS",
        "service": "First", "delivery_days": days,
    }  # fmt: skip
    return convert_to_easypost_object(document)


@pytest.mark.parametrize(
    ("rates", "service", "chosen"),
    [
        ([], Service.STANDARD, None),
        ([("aed", "1", "AED"), ("php", "2", "PHP")], Service.STANDARD, None),
        ([("aed", "1", "AED"), ("eur", "3", "EUR")], Service.STANDARD, "eur"),
        # Not the smallest number: 450 yen are fewer than 500 cents, and 4 dollars are neither.
        ([("jpy", "450", "JPY"), ("usd", "4", "USD"), ("eur", "5", "EUR")], Service.STANDARD, "eur"),
        ([("eur", "5", "EUR"), ("dear", "9", "USD"), ("cheap", "8", "USD")], Service.STANDARD, "cheap"),
        ([("eur", "5", "EUR", 1), ("slow", "1", "USD", 5), ("fast", "8", "USD", 2)], Service.EXPRESS, "fast"),
        ([("untold", "1", "USD"), ("fast", "8", "USD", 2)], Service.EXPRESS, "fast"),
    ],
)
def test_a_rate_is_chosen_within_one_currency(rates, service, chosen):
    found = choose_rate([rate(*one) for one in rates], service)
    assert (found and found.id) == chosen
    again = choose_rate([rate(*one) for one in reversed(rates)], service)
    assert (again and again.id) == chosen, "in whatever order they are offered"


def a_label(**different: Any) -> Any:
    document = {
        "object": "Shipment", "id": "shp_1", "reference": "r", "tracking_code": "C1", "refund_status": None,
        "postage_label": {"object": "PostageLabel", "label_url": "x"},
        "selected_rate": {
            "object": "Rate", "id": "rate_1", "rate": "7.58", "currency": "EUR", "carrier": "USPS",
            "service": "First",
        },
        "rates": [
            {"object": "Rate", "id": "rate_2", "rate": "1", "currency": "EUR", "carrier": "DHL"},
        ],
        "tracker": {
            "object": "Tracker", "id": "trk_1", "public_url": "u", "status": "unknown", "carrier": "FedEx",
        },
        **different,
    }  # fmt: skip
    return convert_to_easypost_object({name: value for name, value in document.items() if value is not ...})


def test_a_bought_label_is_read_whatever_its_price_looks_like():
    label = parse_shipment(a_label()).label
    assert (label.cost, label.currency, label.carrier) == (758, "EUR", "USPS")
    for unreadable in ({"rate": "7.58", "currency": "PHP"}, {"rate": None, "currency": "EUR"}):
        selected = {"object": "Rate", "id": "rate_1", "carrier": "USPS", "service": "First", **unreadable}
        label = parse_shipment(a_label(selected_rate=selected)).label
        assert (label.cost, label.currency, label.tracking_code) == (None, None, "C1")


@pytest.mark.parametrize("missing", [None, ...])
def test_a_bought_label_is_read_whatever_is_missing(missing):
    label = parse_shipment(a_label(selected_rate=missing)).label
    assert (label.carrier, label.service, label.cost) == ("FedEx", "Unknown", None), "not a rate nobody chose"
    label = parse_shipment(a_label(selected_rate=missing, tracker=missing)).label
    assert (label.carrier, label.tracker_id, label.tracking_url) == ("Unknown", "", "")
    bare = {"object": "Tracker", "id": "trk_1"}
    found = parse_shipment(a_label(tracker=bare, rates=missing, reference=missing, refund_status=missing))
    assert (found.label.tracker_id, found.label.tracking_url) == ("trk_1", "")
    assert found.tracking_status is TrackingStatus.PRE_TRANSIT


@pytest.mark.parametrize(
    "details",
    [
        None,
        [],
        [{"object": "TrackingDetail"}],
        [{"object": "TrackingDetail", "datetime": None}],
        [{"object": "TrackingDetail", "datetime": "2026-02-30T00:00:00Z"}],
    ],
)
def test_a_tracker_is_read_whatever_its_scans_look_like(details):
    document = {
        "object": "Tracker", "id": "trk_1", "tracking_code": "C1", "status": "in_transit",
        "tracking_details": details,
    }  # fmt: skip
    update = parse_tracking_update(convert_to_easypost_object(document))
    assert (update.tracking_code, update.tracking_status) == ("C1", TrackingStatus.IN_TRANSIT)


class Answers:
    """The SDK's client, with one answer for each call: exceptions are raised."""

    def __init__(self, **calls: Any) -> None:
        self.calls = calls
        self.shipment = self.pickup = self
        self.made: list[str] = []

    def __getattr__(self, call: str) -> Any:
        def give(*_: Any, **__: Any) -> Any:
            self.made.append(call)
            answers = self.calls[call]
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return give


def easypost_that_answers(client: Answers) -> EasyPostCarrier:
    carrier = EasyPostCarrier("key", "http://127.0.0.1:9")

    async def run(call: Any) -> Any:
        return call(client)

    carrier._run = run  # type: ignore[method-assign]
    return carrier


@pytest.mark.parametrize(
    ("refund_status", "void"),
    [(None, VoidState.REJECTED), ("rejected", VoidState.REJECTED), ("submitted", VoidState.SUBMITTED)],
)
async def test_a_void_that_is_refused_by_an_error_is_rejected(refund_status, void):
    refusal = api(422, "SHIPMENT.REFUND.UNAVAILABLE")
    client = Answers(refund=[refusal], retrieve=[a_label(refund_status=refund_status)])
    assert (await easypost_that_answers(client).void("shp_1")).void is void


async def test_a_void_without_a_label_is_not_rejected():
    client = Answers(refund=[api(422, "X")], retrieve=[a_label(postage_label=None, tracking_code=None)])
    assert (await easypost_that_answers(client).void("shp_1")).void is VoidState.NONE


def a_pickup(begins_in: timedelta | None, confirmation: str | None = None) -> Any:
    document = {
        "object": "Pickup", "id": "pickup_1", "confirmation": confirmation,
        "pickup_rates": [{"object": "PickupRate", "carrier": "USPS", "service": "NextDay"}],
        "min_datetime": None if begins_in is None else (datetime.now(UTC) + begins_in).isoformat(),
    }  # fmt: skip
    return convert_to_easypost_object(document)


@pytest.mark.parametrize("begins_in", [timedelta(hours=1), None])
async def test_a_pickup_is_booked_before_its_day(begins_in):
    client = Answers(retrieve=[a_pickup(begins_in)], buy=[a_pickup(begins_in, "PU-1")])
    assert await easypost_that_answers(client).book_pickup("pickup_1") == "PU-1"


async def test_a_pickup_of_a_past_day_is_not_booked_any_more():
    client = Answers(retrieve=[a_pickup(-timedelta(hours=1))])
    with pytest.raises(Refused):
        await easypost_that_answers(client).book_pickup("pickup_1")
    assert client.made == ["retrieve"]
    client = Answers(retrieve=[a_pickup(-timedelta(hours=1), "PU-1")])
    assert await easypost_that_answers(client).book_pickup("pickup_1") == "PU-1", "it was booked in time"


async def test_a_pickup_that_somebody_else_books_meanwhile_is_booked():
    soon = timedelta(hours=1)
    client = Answers(retrieve=[a_pickup(soon), a_pickup(soon, "PU-1")], buy=[api(422, "PICKUP.PURCHASED")])
    assert await easypost_that_answers(client).book_pickup("pickup_1") == "PU-1"
    client = Answers(retrieve=[a_pickup(soon)], buy=[api(422, "PICKUP.RATE.UNAVAILABLE")])
    with pytest.raises(Refused):
        await easypost_that_answers(client).book_pickup("pickup_1")
