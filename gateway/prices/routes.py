"""Routes to list, read, set and delete price rules, and to read their history."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response

from orderplane.crds.money import EXPONENTS
from orderplane.gateway.http.body import check_media_type, read_body
from orderplane.gateway.http.cursors import cut_page, read_before
from orderplane.gateway.http.documentation import BODY_PROBLEMS, Cursor, IfNoneMatch, body_doc, protected_docs
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.http.responses import json_response, parse_etags, tagged_response
from orderplane.gateway.prices import views
from orderplane.gateway.prices.requests import PriceRuleRequest
from orderplane.gateway.principal import Principal, Scope, allowed
from orderplane.gateway.services import ServicesDep
from orderplane.ledgers.postgres.price_rules import PriceRuleVersion
from orderplane.ledgers.price_rules import PriceRule

router = APIRouter(tags=["price rules"])

_CURSOR = "price rule versions"
_Reader = Annotated[Principal, Depends(allowed(Scope.PRODUCTS_READ))]
_Writer = Annotated[Principal, Depends(allowed(Scope.PRODUCTS_WRITE))]
_TAG = {"ETag": {"description": "For If-Match and If-None-Match.", "schema": {"type": "string"}}}
_IfMatch = Annotated[
    str | None, Header(description="Do it only if this is still the version; `*`: if there is a rule.")
]


@router.get(
    "/api/price-rules",
    summary="List price rules",
    responses={
        200: {"model": views.PriceRuleListView},
        304: {"description": "The version of If-None-Match is still current."},
        **protected_docs(),
    },
)
async def list_price_rules(
    caller: _Reader, services: ServicesDep, if_none_match: IfNoneMatch = None
) -> Response:
    """The currencies that orders are taken in, each with its shipping and tax."""
    rules = await services.price_rules.in_force(caller.merchant)
    return tagged_response(if_none_match, {"items": [views.current_view(rule) for rule in rules]})


@router.get(
    "/api/price-rules/{currency}",
    summary="Read a price rule",
    responses={
        200: {"model": views.CurrentPriceRuleView, "headers": _TAG},
        304: {"description": "The version of If-None-Match is still current."},
        **protected_docs("price_rule_not_found"),
    },
)
async def read_price_rule(
    currency: str, caller: _Reader, services: ServicesDep, if_none_match: IfNoneMatch = None
) -> Response:
    """Shipping and tax of orders in one currency (ISO 4217)."""
    newest = await services.price_rules.newest(caller.merchant, _known(currency))
    if newest is None or newest.rule is None:
        raise _not_found()
    return tagged_response(if_none_match, views.current_view(newest), _etag(newest))


@router.put(
    "/api/price-rules/{currency}",
    summary="Set a price rule",
    responses={
        200: {"model": views.CurrentPriceRuleView, "headers": _TAG},
        **protected_docs("route_not_found", "unsupported_currency", "precondition_failed", *BODY_PROBLEMS),
    },
    openapi_extra=body_doc("PriceRuleRequest"),
)
async def set_price_rule(
    request: Request, currency: str, caller: _Writer, services: ServicesDep, if_match: _IfMatch = None
) -> Response:
    """Replace shipping and tax of orders in one currency (ISO 4217), as a whole.

    It is a new version, unless nothing differs. Orders that are placed already keep their price; the next
    ones cost what the new version says, on other replicas within a second.
    """
    check_media_type(request.headers.get("Content-Type"))
    rule = read_body(await request.body(), PriceRuleRequest).request.rule()
    if currency not in EXPONENTS:
        raise Problem(
            "unsupported_currency", "Orders cannot be placed in this currency. Name one of ISO 4217."
        )
    version = await _change(services, caller, currency, rule, if_match)
    assert version is not None, "a version was added, or is the same"
    return json_response(views.current_view(version), headers={"ETag": _etag(version)})


@router.delete(
    "/api/price-rules/{currency}",
    status_code=204,
    summary="Delete a price rule",
    responses={
        204: {"description": "It is deleted, whether or not it was before."},
        **protected_docs("price_rule_not_found", "precondition_failed"),
    },
)
async def delete_price_rule(
    currency: str, caller: _Writer, services: ServicesDep, if_match: _IfMatch = None
) -> Response:
    """Take no more orders in a currency. Orders that are placed already go on; the history stays."""
    if await _change(services, caller, _known(currency), None, if_match) is None:
        raise _not_found()
    return Response(None, 204)


@router.get(
    "/api/price-rules/{currency}/versions",
    summary="List a price rule's versions",
    responses={
        200: {"model": views.PriceRuleVersionListView},
        **protected_docs("invalid_cursor", "validation_failed", "price_rule_not_found"),
    },
)
async def list_price_rule_versions(
    currency: str,
    caller: _Writer,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=200, description="Versions per page.")] = 50,
    cursor: Cursor = None,
) -> Response:
    """Every version of a price rule, the newest first: what it said, since when, and who changed it.

    An order names the version that it was priced by.
    """
    before = read_before(_CURSOR, cursor)
    found = await services.price_rules.versions(
        caller.merchant, _known(currency), before=before, limit=limit + 1
    )
    if not found and before is None:
        raise _not_found()
    page, following = cut_page(found, limit, _CURSOR, lambda last: {"before": str(last.version)})
    return json_response({"items": [views.version_view(version) for version in page], "next": following})


async def _change(
    services: ServicesDep, caller: Principal, currency: str, rule: PriceRule | None, if_match: str | None
) -> PriceRuleVersion | None:
    def edit(newest: PriceRuleVersion | None) -> PriceRule | None:
        if not _matches(if_match, newest):
            raise Problem("precondition_failed", "Somebody changed the rule. Read it again, then decide.")
        return rule

    with services.catalogue.changed_here(caller.merchant):
        return await services.price_rules.change(caller.merchant, currency, edit, actor=caller.actor)


def _matches(if_match: str | None, newest: PriceRuleVersion | None) -> bool:
    if if_match is None:
        return True
    if newest is None or newest.rule is None:
        return False
    return any(tag in ("*", _etag(newest)) for tag in parse_etags(if_match))


def _etag(version: PriceRuleVersion) -> str:
    return f'"{version.version}"'


def _known(currency: str) -> str:
    """A currency from a path; text that cannot be one never had a rule."""
    if currency not in EXPONENTS:
        raise _not_found()
    return currency


def _not_found() -> Problem:
    return Problem(
        "price_rule_not_found",
        "There is no price rule for this currency. GET /api/price-rules lists them, PUT sets one.",
    )
