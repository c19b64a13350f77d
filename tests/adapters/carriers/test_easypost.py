"""What each exception of EasyPost's SDK means, and how parcels and prices are converted."""

import aiohttp
import easypost.errors
import pytest

from orderplane.adapters.carriers.easypost import classify_error, to_easypost_parcel, to_minor_units
from orderplane.crds.shipment import Parcel
from orderplane.ledgers.errors import Refused, Transient, Unclear


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
    assert to_minor_units(text, currency) == minor
