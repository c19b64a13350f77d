"""Products: what is for sale."""

from typing import cast

from orderplane.client.answers import ProductPage
from orderplane.client.caller import Caller
from orderplane.client.transport import Request


class Products:
    """The catalogue of the caller's merchant."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def list(self, *, limit: int | None = None, cursor: str | None = None) -> ProductPage:
        """A page of products; `next` of the last one is the cursor of the following.

        Raises:
            ApiProblem: `invalid_cursor`, `validation_failed`.
        """
        wanted = {"limit": limit, "cursor": cursor}
        query = {name: value for name, value in wanted.items() if value is not None}
        return cast("ProductPage", (await self._caller.send(Request("GET", "/api/products", query))).document)
