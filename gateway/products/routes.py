"""Routes to list, read, create, change and archive products."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response

from orderplane.gateway.http.body import (
    apply_merge_patch,
    check_media_type,
    is_sku,
    parse_json,
    read_body,
    validate_json,
)
from orderplane.gateway.http.cursors import MAX_CURSOR, cut_page, read_after
from orderplane.gateway.http.documentation import BODY_PROBLEMS, IfNoneMatch, body_doc, protected_docs
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.http.responses import etag_of_body, json_response, parse_etags, written_response
from orderplane.gateway.principal import Principal, Scope, allowed, check_scopes
from orderplane.gateway.products.requests import (
    DetailsRequest,
    ProductRequest,
    SoldIn,
    UnitAmount,
    document_of,
)
from orderplane.gateway.products.views import (
    ProductListView,
    ProductView,
    product_view,
    write_page,
    write_product,
)
from orderplane.gateway.services import ServicesDep
from orderplane.ledgers.postgres.products import ProductDetails, ProductSearch, StoredProduct

router = APIRouter(tags=["products"])

_CURSOR = "products"
_MERGE_PATCH = "application/merge-patch+json"
_Reader = Annotated[Principal, Depends(allowed(Scope.PRODUCTS_READ))]
_Writer = Annotated[Principal, Depends(allowed(Scope.PRODUCTS_WRITE))]
_TAG = {"ETag": {"description": "For If-Match and If-None-Match.", "schema": {"type": "string"}}}


@router.get(
    "/api/products",
    summary="List products",
    responses={
        200: {"model": ProductListView},
        304: {"description": "The version of If-None-Match is still current."},
        **protected_docs("invalid_cursor", "validation_failed"),
    },
)
async def list_products(
    caller: _Reader,
    services: ServicesDep,
    q: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=200,
            description="Words of the SKU, the name or the description, as in a web search: all of them, "
            '`"as a phrase"`, `or`, `-without`.',
        ),
    ] = None,
    currency: Annotated[SoldIn | None, Query(description="Only those with a price in it (ISO 4217).")] = None,
    min_price: Annotated[
        UnitAmount | None,
        Query(alias="minPrice", description="In minor units of `currency`, which it needs."),
    ] = None,
    max_price: Annotated[UnitAmount | None, Query(alias="maxPrice", description="As `minPrice`.")] = None,
    in_stock: Annotated[bool, Query(alias="inStock", description="Only those with available stock.")] = False,
    include_archived: Annotated[
        bool,
        Query(alias="includeArchived", description="Include archived products; needs products:write."),
    ] = False,
    limit: Annotated[int, Query(ge=1, le=200, description="Products per page.")] = 50,
    cursor: Annotated[
        str | None, Query(max_length=MAX_CURSOR, description="`next` of the last page; keep the filters.")
    ] = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The products that are for sale, by SKU, with prices and available stock."""
    if include_archived:
        check_scopes(caller, Scope.PRODUCTS_WRITE)
    if currency is None and not (min_price is None and max_price is None):
        places = [{"parameter": "currency", "detail": "A price is a number of what? Name the currency."}]
        raise Problem("validation_failed", "Correct the parameters in `errors`.", errors=places)
    search = ProductSearch(q, currency, min_price, max_price, in_stock, include_archived)
    after = read_after(_CURSOR, cursor)
    found = await services.product_reads.page(caller.merchant, search, after=after, limit=limit + 1)
    page, following = cut_page(found, limit, _CURSOR, lambda last: {"after": last.sku})
    body = write_page([product.body for product in page], following)
    return written_response(if_none_match, body, etag_of_body(body))


@router.post(
    "/api/products",
    status_code=201,
    summary="Make a product",
    responses={
        201: {
            "model": ProductView,
            "headers": {"Location": {"description": "The product.", "schema": {"type": "string"}}, **_TAG},
        },
        **protected_docs("sku_taken", *BODY_PROBLEMS),
    },
    openapi_extra=body_doc("ProductRequest"),
)
async def make_product(request: Request, caller: _Writer, services: ServicesDep) -> Response:
    """Create a product. Its stock is created by a recount.

    A repeated request is safe: the SKU is unique, and the second request is answered with `sku_taken`.
    """
    check_media_type(request.headers.get("Content-Type"))
    wanted = read_body(await request.body(), ProductRequest).request
    with services.catalogue.changed_here(caller.merchant):
        product = await services.products.add(
            caller.merchant, wanted.sku, wanted.details(), actor=caller.actor
        )
    if product is None:
        raise Problem(
            "sku_taken",
            "There is a product with this SKU, maybe an archived one. Change that one, or take another SKU.",
        )
    return _product_response(product, status=201, headers={"Location": f"/api/products/{product.sku}"})


@router.get(
    "/api/products/{sku}",
    summary="Read a product",
    responses={
        200: {"model": ProductView, "headers": _TAG},
        304: {"description": "The version of If-None-Match is still current."},
        **protected_docs("product_not_found"),
    },
)
async def read_product(
    sku: str, caller: _Reader, services: ServicesDep, if_none_match: IfNoneMatch = None
) -> Response:
    """One product, also an archived one, because old orders refer to it."""
    product = await services.product_reads.product(caller.merchant, _valid_sku(sku))
    if product is None:
        raise not_found()
    return written_response(if_none_match, product.body, product.etag)


@router.patch(
    "/api/products/{sku}",
    summary="Change a product",
    responses={
        200: {"model": ProductView, "headers": _TAG},
        **protected_docs("product_not_found", "precondition_failed", *BODY_PROBLEMS),
    },
    openapi_extra=body_doc("ProductPatch", _MERGE_PATCH, "application/json"),
)
async def change_product(
    request: Request,
    sku: str,
    caller: _Writer,
    services: ServicesDep,
    if_match: Annotated[
        str | None,
        Header(
            description="Change it only if its details are unchanged since; its available stock may differ."
        ),
    ] = None,
) -> Response:
    """A JSON merge patch (RFC 7396). Existing orders keep the price that they were placed at.

    `archived: false` makes an archived product available again.
    """
    check_media_type(request.headers.get("Content-Type"), _MERGE_PATCH)
    patch = parse_json(await request.body())

    def edit(product: StoredProduct) -> ProductDetails:
        document = apply_merge_patch(document_of(product.details), patch)
        # Before the version: an invalid request is invalid for every version.
        details = validate_json(document, DetailsRequest).details()
        if not _version_matches(if_match, product):
            raise Problem("precondition_failed", "Somebody changed the product. Read it again, then decide.")
        return details

    with services.catalogue.changed_here(caller.merchant):
        product = await services.products.change(caller.merchant, _valid_sku(sku), edit, actor=caller.actor)
    if product is None:
        raise not_found()
    return _product_response(product)


@router.delete(
    "/api/products/{sku}",
    status_code=204,
    summary="Archive a product",
    responses={
        204: {"description": "It is archived, whether or not it was before."},
        **protected_docs("product_not_found"),
    },
)
async def archive_product(sku: str, caller: _Writer, services: ServicesDep) -> Response:
    """Stop selling a product. It stays readable, its orders go on, and its stock stays."""
    with services.catalogue.changed_here(caller.merchant):
        product = await services.products.change(
            caller.merchant,
            _valid_sku(sku),
            lambda product: replace(product.details, is_archived=True),
            actor=caller.actor,
        )
    if product is None:
        raise not_found()
    return Response(None, 204)


def not_found() -> Problem:
    """The problem for a SKU without a product."""
    return Problem("product_not_found", "There is no product with this SKU. GET /api/products lists them.")


def _valid_sku(sku: str) -> str:
    """A SKU from a path; text that cannot be one is not looked up."""
    if not is_sku(sku):
        raise not_found()
    return sku


def _product_response(
    product: StoredProduct, *, status: int = 200, headers: dict[str, Any] | None = None
) -> Response:
    tag = {"ETag": write_product(product).etag(product.available)}
    return json_response(product_view(product), status=status, headers={**tag, **(headers or {})})


def _version_matches(if_match: str | None, product: StoredProduct) -> bool:
    # Only the version of the details counts: a change of price must not conflict with every sale.
    wanted = f'"{product.version}-'
    return if_match is None or any(tag == "*" or tag.startswith(wanted) for tag in parse_etags(if_match))
