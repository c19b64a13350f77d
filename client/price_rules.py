"""Price rules, and quotes by them."""

from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import quote

from orderplane.client.accounts import Caller
from orderplane.client.responses import Item, PriceRule, PriceRuleList, PriceRuleVersionPage, Quote
from orderplane.client.transport import Request

_PATH = "/api/price-rules"


class PriceRules:
    """The price rules of the caller's merchant, one for each currency."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def list(self) -> PriceRuleList:
        """All that are in force, by currency."""
        return cast("PriceRuleList", (await self._caller.send(Request("GET", _PATH))).document)

    async def get(self, currency: str) -> PriceRule:
        """The one of a currency.

        Raises:
            ApiProblem: `price_rule_not_found`.
        """
        return cast("PriceRule", (await self._caller.send(Request("GET", _of(currency)))).document)

    async def set(self, currency: str, rule: Mapping[str, Any], *, version: int | None = None) -> PriceRule:
        """Replace the one of a currency, or make the first one.

        Args:
            rule: As the body of the route.
            version: Do it only if this is still the version.

        Raises:
            ApiProblem: `validation_failed`, `unsupported_currency`, `precondition_failed`.
        """
        request = Request("PUT", _of(currency), json=rule, headers=_if_version(version))
        return cast("PriceRule", (await self._caller.send(request)).document)

    async def delete(self, currency: str, *, version: int | None = None) -> None:
        """Take no more orders in a currency; repeating it has no effect.

        Raises:
            ApiProblem: `price_rule_not_found`, `precondition_failed`.
        """
        await self._caller.send(Request("DELETE", _of(currency), headers=_if_version(version)))

    async def versions(
        self, currency: str, *, limit: int | None = None, cursor: str | None = None
    ) -> PriceRuleVersionPage:
        """A page of the versions of a rule, the newest first, with who made them.

        Raises:
            ApiProblem: `price_rule_not_found`, `invalid_cursor`.
        """
        request = Request("GET", f"{_of(currency)}/versions", {"limit": limit, "cursor": cursor})
        return cast("PriceRuleVersionPage", (await self._caller.send(request)).document)

    async def quote(self, items: Sequence[Item], *, country: str, currency: str | None = None) -> Quote:
        """What an order would cost now.

        Args:
            country: Where it would go, ISO 3166-1 alpha-2.
            currency: None means the products' own.

        Raises:
            ApiProblem: it cannot be priced, as `no_price_rule`, `unserved_country`.
        """
        body = {"items": list(items), "country": country, **({"currency": currency} if currency else {})}
        request = Request("POST", "/api/quotes", json=body, is_idempotent=True)
        return cast("Quote", (await self._caller.send(request)).document)


def _of(currency: str) -> str:
    return f"{_PATH}/{quote(currency, safe='')}"


def _if_version(version: int | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": f'"{version}"'}
