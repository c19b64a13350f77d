"""What can be ordered."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from starlette.responses import Response

from orderplane.adapters.postgres.shelf import ShelfProduct
from orderplane.gateway.http.cursors import MAX_CURSOR, read_cursor, write_cursor
from orderplane.gateway.http.responses import guarded_docs, tagged_response
from orderplane.gateway.principal import Principal, Scope, allowed
from orderplane.gateway.products import views
from orderplane.gateway.services import ServicesDep

router = APIRouter(tags=["products"])

_CURSOR = "products"
_Reader = Annotated[Principal, Depends(allowed(Scope.PRODUCTS_READ))]


@router.get(
    "/api/products",
    summary="List products",
    responses={
        200: {"model": views.ProductListView},
        304: {"description": "The page is still the one of If-None-Match."},
        **guarded_docs("invalid_cursor", "validation_failed"),
    },
)
async def list_products(
    caller: _Reader,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=200, description="Products per page.")] = 50,
    cursor: Annotated[
        str | None, Query(max_length=MAX_CURSOR, description="`next` of the last page.")
    ] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The products that are for sale, by SKU, with their prices and what is left of them."""
    after = read_cursor(_CURSOR, cursor)["after"] if cursor else None
    rows = await services.shelf.page(caller.merchant, after=after or "", limit=limit + 1)
    page = rows[:limit]
    following = write_cursor(_CURSOR, {"after": page[-1].sku}) if len(rows) > limit else None
    return tagged_response(if_none_match, {"items": [product_view(row) for row in page], "next": following})


def product_view(product: ShelfProduct) -> views.ProductView:
    """One product as this API shows it."""
    return {
        "sku": product.sku,
        "name": product.name,
        "description": product.description,
        "price": views.price_view(product.unit_amount, product.currency),
        "weightGrams": product.weight_grams,
        "available": product.available,
    }
