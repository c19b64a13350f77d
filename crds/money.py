"""Minor units of currencies and how to print them.

Source of the exponents: ISO 4217, list one. Other currencies are refused, because a wrong exponent would make
a price wrong by a factor of a hundred.
"""

import re

EXPONENTS = {
    "AUD": 2, "BHD": 3, "BRL": 2, "CAD": 2, "CHF": 2, "CLP": 0, "CNY": 2, "CZK": 2, "DKK": 2, "EUR": 2,
    "GBP": 2, "HKD": 2, "HUF": 2, "IDR": 2, "ILS": 2, "INR": 2, "ISK": 0, "JOD": 3, "JPY": 0, "KRW": 0,
    "KWD": 3, "MXN": 2, "MYR": 2, "NOK": 2, "NZD": 2, "OMR": 3, "PLN": 2, "RON": 2, "SEK": 2, "SGD": 2,
    "THB": 2, "TND": 3, "TRY": 2, "TWD": 2, "UGX": 0, "USD": 2, "VND": 0, "ZAR": 2,
}  # fmt: skip


def format_minor(amount: int, currency: str) -> str:
    """Print an amount: `format_minor(1999, "EUR")` is `19.99 EUR`.

    Raises:
        KeyError: the currency is not in the table.
    """
    return f"{decimal_of(amount, currency)} {currency}"


def decimal_of(amount: int, currency: str) -> str:
    """An amount in whole units: `decimal_of(1999, "EUR")` is `19.99`, `decimal_of(1999, "JPY")` is `1999`.

    Raises:
        KeyError: the currency is not in the table.
    """
    exponent = EXPONENTS[currency]
    sign = "-" if amount < 0 else ""
    if exponent == 0:
        return f"{sign}{abs(amount)}"
    whole, part = divmod(abs(amount), 10**exponent)
    return f"{sign}{whole}.{part:0{exponent}d}"


def minor_of(text: str, currency: str) -> int:
    """The amount that somebody has typed in whole units: `minor_of("19.99", "EUR")` is 1999.

    Raises:
        KeyError: the currency is not in the table.
        ValueError: it is no positive amount, or has more decimals than the currency.
    """
    exponent = EXPONENTS[currency]
    if not re.fullmatch(rf"[0-9]{{1,12}}(\.[0-9]{{1,{exponent}}})?" if exponent else "[0-9]{1,12}", text):
        raise ValueError(f"{text} is no amount in {currency}; write it as {decimal_of(1999, currency)}")
    whole, _, part = text.partition(".")
    return int(whole + part.ljust(exponent, "0"))
