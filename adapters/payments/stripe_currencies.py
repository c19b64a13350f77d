"""How Stripe counts money, and which amounts it charges. Pure.

Our minor units are those of ISO 4217; Stripe's differ for some currencies. Source of all rules and numbers:
https://docs.stripe.com/currencies ("Minor units in API amounts", "Special cases", "Minimum and maximum charge
amounts"). HUF and TWD have rules for payouts only; they are charged like any other currency.
"""

from collections.abc import Mapping

from orderplane.crds.money import EXPONENTS
from orderplane.ledgers.pricing import ChargeLimits

ZERO_DECIMAL = frozenset(
    {
        "BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF",
        "XPF",
    }
)  # fmt: skip
THREE_DECIMAL = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})
"""Charges, refunds and disputes in these have 0 as their last digit."""

DEFAULT_GREATEST = 99_999_999
"""Eight digits."""
# Twelve, nine and ten digits. For COP, HUF and JPY the page gives three numbers that differ: how many digits,
# a price and an `amount`. Ten digits is the least of them, so nothing is accepted here and refused there.
# Some card brands take less (American Express in IDR, JCB in JPY): that is known only when a card is charged.
GREATEST = {
    "IDR": 999_999_999_999,
    "INR": 999_999_999,
    "COP": 9_999_999_999,
    "HUF": 9_999_999_999,
    "JPY": 9_999_999_999,
}

# In our minor units. Each number holds for an account that is settled in that currency; any other charge has
# to be worth the least charge of the settlement currency.
_DOCUMENTED_LEAST_CHARGES = {
    "AUD": 50, "BRL": 50, "CAD": 50, "CHF": 50, "CZK": 15_00, "DKK": 2_50, "EUR": 50, "GBP": 30, "HKD": 4_00,
    "HUF": 175_00, "INR": 50, "JPY": 50, "MXN": 10_00, "MYR": 2_00, "NOK": 3_00, "NZD": 50, "PLN": 2_00,
    "RON": 2_00, "SEK": 3_00, "SGD": 50, "THB": 10_00, "USD": 50,
}  # fmt: skip
# Stripe names no number for these. So they are estimates: what 0.50 USD is worth, rounded up.
_ESTIMATED_LEAST_CHARGES = {
    "BHD": 250, "CLP": 600, "CNY": 4_50, "IDR": 10_000_00, "ILS": 2_50, "ISK": 80, "JOD": 450, "KRW": 900,
    "KWD": 200, "OMR": 250, "TND": 2_000, "TRY": 30_00, "TWD": 20_00, "UGX": 2_500, "VND": 16_000,
    "ZAR": 12_00,
}  # fmt: skip
LEAST_CHARGES: Mapping[str, int] = _DOCUMENTED_LEAST_CHARGES | _ESTIMATED_LEAST_CHARGES
"""In minor units of ISO 4217, for every currency that orders can have."""


def charge_limits(least_charges: Mapping[str, int] = LEAST_CHARGES) -> Mapping[str, ChargeLimits]:
    """What can be charged in each currency.

    Args:
        least_charges: In minor units of ISO 4217; they depend on the settlement currency of the account.
    """
    return {currency: _limits(currency, least_charges[currency]) for currency in EXPONENTS}


def to_stripe(amount: int, currency: str) -> int:
    """An amount in our minor units as Stripe's `amount`.

    Raises:
        ValueError: Stripe cannot express it.
    """
    if amount % _step(currency):
        raise ValueError(f"amounts in {currency} are multiples of {_step(currency)} minor units")
    return amount * _factor(currency)


def from_stripe(amount: int, currency: str) -> int:
    """Stripe's `amount` in our minor units. A fraction, which only a dispute can have, is rounded up."""
    return -(-amount // _factor(currency))


def _limits(currency: str, least: int) -> ChargeLimits:
    step = _step(currency)
    greatest = GREATEST.get(currency, DEFAULT_GREATEST) // _factor(currency)
    return ChargeLimits(least=-(-least // step) * step, greatest=greatest // step * step, step=step)


def _step(currency: str) -> int:
    return 10 if currency in THREE_DECIMAL else 1


def _factor(currency: str) -> int:
    """How many of Stripe's units one of ours is: 100 for ISK and UGX, which Stripe counts with two decimals
    that are always 00. A currency that orders cannot have is left as it is."""
    exponent = 0 if currency in ZERO_DECIMAL else 3 if currency in THREE_DECIMAL else 2
    return 10 ** (exponent - EXPONENTS.get(currency, exponent))  # type: ignore[no-any-return]
