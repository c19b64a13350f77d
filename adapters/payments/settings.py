"""The setting of the least charges, which the gateway and the webhook share."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from orderplane.adapters.payments.stripe_currencies import LEAST_CHARGES
from orderplane.crds.money import EXPONENTS


def least_charges_from(text: str) -> Mapping[str, int]:
    """`EUR=50, JPY=80` over the defaults.

    Raises:
        ValueError: it has another form, or names a currency that orders cannot have.
    """
    found = dict(LEAST_CHARGES)
    for part in filter(None, (part.strip() for part in text.split(","))):
        currency, _, amount = (word.strip() for word in part.partition("="))
        if currency not in EXPONENTS:
            raise ValueError(f"orders cannot be placed in {currency}")
        if not amount.isdecimal() or int(amount) < 1:
            raise ValueError(f"give {currency} a whole number of minor units, such as {currency}=50")
        found[currency] = int(amount)
    return found


def _parsed(value: Any) -> Any:
    return least_charges_from(value) if isinstance(value, str) else value


LeastCharges = Annotated[
    Mapping[str, int],
    NoDecode,
    BeforeValidator(_parsed),
    Field(
        description="The least that can be charged, by currency, in minor units, such as EUR=50, JPY=80: "
        "orders below it are refused. It depends on the currency that the account at the payment provider is "
        "settled in. A currency that is left out keeps its default.",
        json_schema_extra={
            "written": ", ".join(f"{currency}={least}" for currency, least in sorted(LEAST_CHARGES.items()))
        },
    ),
]
