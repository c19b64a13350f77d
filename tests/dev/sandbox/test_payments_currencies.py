"""The sandbox refuses what Stripe refuses: https://docs.stripe.com/currencies."""

import pytest

from orderplane.dev.sandbox.payments.currencies import refuse_charge, refuse_fraction


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        (199_000, "isk", None),
        (199_050, "isk", "parameter_invalid_integer"),
        (500_000, "ugx", None),
        (500_001, "ugx", "parameter_invalid_integer"),
        (5_120, "kwd", None),
        (5_124, "kwd", "parameter_invalid_integer"),
        (1_045, "eur", None),
        (49, "eur", "amount_too_small"),
        (50, "eur", None),
        (17_499, "huf", "amount_too_small"),
        (99_999_999, "eur", None),
        (100_000_000, "eur", "amount_too_large"),
        (999_999_999, "inr", None),
        (1_000_000_000, "inr", "amount_too_large"),
        (9_999_999_999, "huf", None),
        (10_000_000_000, "huf", "amount_too_large"),
        (9_999_999_999, "jpy", None),
        (10_000_000_000, "jpy", "amount_too_large"),
        (999_999_999_999, "idr", None),
        (1_000_000_000_000, "idr", "amount_too_large"),
    ],
)
def test_a_charge(amount: int, currency: str, code: str | None) -> None:
    refusal = refuse_charge(amount, currency)
    assert (refusal and refusal.code) == code


@pytest.mark.parametrize(("amount", "currency"), [(50, "isk"), (1, "ugx"), (5, "kwd")])
def test_a_refund_has_no_fraction_either(amount: int, currency: str) -> None:
    assert refuse_fraction(amount, currency) is not None
    assert refuse_fraction(amount * 100, currency) is None


def test_a_currency_that_is_not_known_is_named() -> None:
    refusal = refuse_charge(100, "zzz")
    assert refusal is not None
    assert refusal.param == "currency"
