"""The SDKs' exceptions and objects, as tables: what each means."""

import aiohttp
import easypost.errors
import pytest
import stripe

from orderplane.adapters.carriers import easypost as carriers
from orderplane.adapters.payments import stripe as payments
from orderplane.crds.shipment import Parcel
from orderplane.ledgers.errors import Refused, Transient, Unclear


def caused(problem, cause):
    problem.__cause__ = cause
    return problem


def within(problem, context):
    problem.__context__ = context
    return problem


class _Connector(aiohttp.ClientConnectorError):
    def __init__(self):
        pass


@pytest.mark.parametrize(
    ("problem", "verdict"),
    [
        (caused(stripe.APIConnectionError("x"), _Connector()), Transient),
        (caused(stripe.APIConnectionError("x"), aiohttp.ConnectionTimeoutError()), Transient),
        (caused(stripe.APIConnectionError("x"), aiohttp.SocketTimeoutError()), Unclear),
        (caused(stripe.APIConnectionError("x"), TimeoutError()), Unclear),
        (caused(stripe.APIConnectionError("x"), aiohttp.ServerDisconnectedError()), Unclear),
        (stripe.RateLimitError("x", http_status=429), Transient),
        (stripe.AuthenticationError("x", http_status=401), Transient),
        (stripe.PermissionError("x", http_status=403), Transient),
        (stripe.APIError("x", http_status=409), Transient),
        (stripe.APIError("x", http_status=500), Unclear),
        (stripe.APIError("x", http_status=200), Unclear),
        (stripe.APIError("x"), Unclear),
        (stripe.IdempotencyError("x", http_status=400), Refused),
        (stripe.InvalidRequestError("x", "amount", http_status=400), Refused),
        (stripe.CardError("x", None, "card_declined", http_status=402), Refused),
        (aiohttp.ClientPayloadError(), Unclear),
        (ConnectionResetError(), Unclear),
        (KeyError("a defect of ours"), type(None)),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else one.__name__,
)
def test_stripe(problem, verdict):
    assert type(payments.classify_error(problem)) is verdict


def api(status, code=None):
    error = easypost.errors.ApiError("x", http_status=status)
    error.code = code
    return error


@pytest.mark.parametrize(
    ("problem", "verdict", "reason"),
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
def test_easypost(problem, verdict, reason):
    found = carriers.classify_error(problem)
    assert type(found) is verdict
    assert found.reason == reason


def test_a_defect_is_not_taken_for_the_carriers_answer():
    assert carriers.classify_error(KeyError("ours")) is None


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
    assert carriers.to_easypost_parcel(boxes) == expected


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
    assert carriers.to_minor_units(text, currency) == minor
