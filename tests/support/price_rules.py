"""Price rules for tests: orders are taken in no currency without one."""

from orderplane.ledgers.postgres.price_rules import PriceRuleStore
from orderplane.ledgers.postgres.session import Pool
from orderplane.ledgers.price_rules import CountryTax, PriceRule, ShippingZone, WeightStep
from orderplane.ledgers.pricing import RuleInForce


def flat(shipping: int = 0, basis_points: int = 0, *, is_included: bool = False) -> PriceRule:
    """The same for every country and weight."""
    return PriceRule(
        shipping=(ShippingZone(by_weight=(WeightStep(amount=shipping),)),),
        tax_included=is_included,
        taxes=(CountryTax(basis_points=basis_points),),
    )


def in_force(**rules: PriceRule) -> dict[str, RuleInForce]:
    """The first versions of rules, by currency."""
    return {currency: RuleInForce(1, rule) for currency, rule in rules.items()}


async def set_price_rules(pool: Pool, merchant: str, **rules: PriceRule) -> None:
    """Set the rules of currencies, as the gateway does."""
    for currency, rule in rules.items():
        await PriceRuleStore(pool).change(merchant, currency, lambda _, rule=rule: rule)
