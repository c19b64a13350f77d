"""A mix of orders, and the phase in which each must end. Pure: the same seed gives the same mix."""

import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from orderplane.dev.demo.products import COMMON, RECOUNTED, SCARCE


class Story(StrEnum):
    """What happens to an order; its input decides that (see dev/sandbox/README.md)."""

    GOOD = "good"
    OUT_OF_STOCK = "out of stock"
    DECLINED = "card declined"
    AUTHENTICATION = "bank asks back"
    CHARGE_UNCLEAR = "charged, then timed out"
    CHARGE_LOST = "timed out before charging"
    ADDRESS_REFUSED = "address refused"
    LABEL_REFUSED = "label refused"
    LABEL_UNCLEAR = "label bought, then timed out"
    CANCELLED = "customer cancels"
    RECOUNTED = "stock lost after payment"


@dataclass(frozen=True, slots=True)
class Case:
    """One order to be placed.

    Args:
        body: The request body.
        end: The phase in which it must end.
        reason: The reason in its status; None if it is delivered.
        cancel_after: Seconds after the 202 until the customer cancels.
    """

    number: int
    story: Story
    key: str
    body: dict[str, Any]
    end: str = "Delivered"
    reason: str | None = None
    cancel_after: float | None = field(default=None, compare=False)


_RECIPES: dict[Story, dict[str, Any]] = {
    Story.GOOD: {},
    Story.OUT_OF_STOCK: {"sku": SCARCE, "quantity": 4, "end": "Failed", "reason": "OutOfStock"},
    Story.DECLINED: {"method": "pm_card_chargeDeclined", "end": "Failed", "reason": "CardDeclined"},
    Story.AUTHENTICATION: {
        "method": "pm_card_authenticationRequired", "end": "Failed", "reason": "AuthenticationRequired",
    },
    Story.CHARGE_UNCLEAR: {"method": "pm_sandbox_timeoutAfterCharge"},
    Story.CHARGE_LOST: {"method": "pm_sandbox_timeoutBeforeCharge"},
    Story.ADDRESS_REFUSED: {"line1": "1 Nowhere Lane", "end": "Failed", "reason": "AddressRejected"},
    Story.LABEL_REFUSED: {"line1": "9 Island Walk", "end": "Failed", "reason": "ShipmentRejected"},
    Story.LABEL_UNCLEAR: {"line1": "3 Ferry Road"},
    Story.CANCELLED: {"end": "Cancelled", "reason": "CancelRequested", "cancel": True},
    Story.RECOUNTED: {
        "sku": RECOUNTED, "quantity": 1, "line1": "7 Fog Street", "end": "Failed", "reason": "StockLost",
    },
}  # fmt: skip

_SHARES = {
    Story.GOOD: 60,
    Story.OUT_OF_STOCK: 6,
    Story.DECLINED: 5,
    Story.AUTHENTICATION: 2,
    Story.CHARGE_UNCLEAR: 4,
    Story.CHARGE_LOST: 2,
    Story.ADDRESS_REFUSED: 4,
    Story.LABEL_REFUSED: 3,
    Story.LABEL_UNCLEAR: 3,
    Story.CANCELLED: 8,
    Story.RECOUNTED: 3,
}
"""Orders of each kind among a hundred."""


def mix(orders: int, seed: int, *, stories: dict[Story, int] | None = None) -> list[Case]:
    """`orders` cases in the order in which they are placed. Each story occurs if there are enough orders."""
    rng = random.Random(seed)
    shares = stories or _SHARES
    chosen = list(shares)[:orders] if orders < len(shares) else list(shares)
    chosen += rng.choices(list(shares), weights=list(shares.values()), k=orders - len(chosen))
    rng.shuffle(chosen)
    return [_case(number, story, seed, rng) for number, story in enumerate(chosen, start=1)]


def _case(number: int, story: Story, seed: int, rng: random.Random) -> Case:
    recipe = _RECIPES[story]
    if "sku" in recipe:
        items = [{"sku": recipe["sku"], "quantity": recipe["quantity"]}]
    else:
        skus = rng.sample(COMMON, k=rng.randint(1, 3))
        items = [{"sku": sku, "quantity": rng.randint(1, 3)} for sku in skus]
    body = {
        "items": items,
        "address": {
            "name": f"Customer {number}",
            "line1": recipe.get("line1", f"{rng.randint(1, 99)} Canal Street"),
            "city": "Rotterdam",
            "postalCode": f"30{rng.randint(10, 99)}",
            "country": "NL",
        },
        "paymentMethod": recipe.get("method", "pm_card_visa"),
    }
    return Case(
        number=number,
        story=story,
        key=f"demo-{seed}-{number}-{rng.getrandbits(64):016x}",
        body=body,
        end=recipe.get("end", "Delivered"),
        reason=recipe.get("reason"),
        cancel_after=rng.uniform(0.2, 1.2) if recipe.get("cancel") else None,
    )
