"""Which amounts are charged and refunded. Pure.

It is written from the documentation alone, so that a fault in the product's own table is found.

Source: https://docs.stripe.com/currencies
"""

from dataclasses import dataclass

_ZERO_DECIMAL = frozenset(
    {
        "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof",
        "xpf",
    }
)  # fmt: skip
_THREE_DECIMAL = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
_ALWAYS_00 = frozenset({"isk", "ugx"})
_TWO_DECIMAL = frozenset(
    {
        "aud", "brl", "cad", "chf", "cny", "cop", "czk", "dkk", "eur", "gbp", "hkd", "huf", "idr", "ils",
        "inr", "mxn", "myr", "nok", "nzd", "php", "pln", "ron", "sek", "sgd", "thb", "try", "twd", "usd",
        "zar",
    }
)  # fmt: skip
_KNOWN = _ZERO_DECIMAL | _THREE_DECIMAL | _ALWAYS_00 | _TWO_DECIMAL

# "Minimum charge amounts", by settlement currency; the account has a bank account in each of them.
_LEAST = {
    "usd": 50, "aud": 50, "brl": 50, "cad": 50, "chf": 50, "czk": 1500, "dkk": 250, "eur": 50, "gbp": 30,
    "hkd": 400, "huf": 17500, "inr": 50, "jpy": 50, "mxn": 1000, "myr": 200, "nok": 300, "nzd": 50,
    "pln": 200, "ron": 200, "sek": 300, "sgd": 50, "thb": 1000,
}  # fmt: skip
# Other currencies are converted: what one dollar is worth, about as in 2026.
_PER_DOLLAR = {
    "bhd": 0.376, "clp": 950, "cny": 7.1, "cop": 4000, "idr": 16600, "ils": 3.6, "isk": 125, "jod": 0.709,
    "krw": 1420, "kwd": 0.307, "omr": 0.385, "php": 58, "tnd": 2.95, "try": 43, "twd": 32, "ugx": 3650,
    "vnd": 26300, "zar": 17.5,
}  # fmt: skip
_LEAST_DOLLARS = 0.5

_GREATEST = {
    "idr": 999_999_999_999, "inr": 999_999_999, "cop": 9_999_999_999, "huf": 9_999_999_999,
    "jpy": 9_999_999_999,
}  # fmt: skip
_EIGHT_DIGITS = 99_999_999


@dataclass(frozen=True, slots=True)
class AmountRefusal:
    """Why an amount is refused: the error's code, if it has one, and its message."""

    code: str | None
    message: str
    param: str = "amount"


def refuse_charge(amount: int, currency: str) -> AmountRefusal | None:
    """Why a charge of `amount` is refused; None where it is not."""
    if currency not in _KNOWN:
        return AmountRefusal(None, f"Invalid currency: {currency}.", "currency")
    if amount > _GREATEST.get(currency, _EIGHT_DIGITS):
        return AmountRefusal("amount_too_large", "Amount must be no more than the currency allows.")
    if amount < 1:
        return AmountRefusal("parameter_invalid_integer", "This value must be greater than or equal to 1.")
    if amount < _least(currency):
        return AmountRefusal("amount_too_small", "Amount must convert to at least 50 cents.")
    return refuse_fraction(amount, currency)


def refuse_fraction(amount: int, currency: str) -> AmountRefusal | None:
    """Why no amount of this form is taken, in a charge or in a refund."""
    if currency in _ALWAYS_00 and amount % 100:
        message = (
            f"Invalid amount. Currency {currency.upper()} has become effectively zero-decimal and amounts "
        )
        return AmountRefusal("parameter_invalid_integer", f"{message}must be evenly divisible by 100.")
    if currency in _THREE_DECIMAL and amount % 10:
        message = f"Invalid amount. The last digit of amounts in {currency.upper()} must be 0."
        return AmountRefusal("parameter_invalid_integer", message)
    return None


def _least(currency: str) -> float:
    if currency in _LEAST:
        return _LEAST[currency]
    exponent = 0 if currency in _ZERO_DECIMAL else 3 if currency in _THREE_DECIMAL else 2
    units: int = 10**exponent
    return _LEAST_DOLLARS * _PER_DOLLAR.get(currency, 1.0) * units
