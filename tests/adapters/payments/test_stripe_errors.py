"""What each exception of Stripe's SDK means."""

import aiohttp
import pytest
import stripe

from orderplane.adapters.payments.stripe import classify_error
from orderplane.ledgers.errors import Refused, Transient, Unclear


def caused(problem, cause):
    problem.__cause__ = cause
    return problem


class _Connector(aiohttp.ClientConnectorError):
    def __init__(self):
        pass


@pytest.mark.parametrize(
    ("problem", "expected"),
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
def test_an_exception_is_classified(problem, expected):
    assert type(classify_error(problem)) is expected
