"""The front door's client: `async with open_client(url, Password(...)) as client`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orderplane.client.accounts import Caller, ClientSecret, Login, Password, TokenStore
from orderplane.client.orders import Orders
from orderplane.client.products import Inventory, Products
from orderplane.client.transport import Transport, connect


class Client:
    """Everything that one caller can ask for; who that is, is asked for with the first request.

    Args:
        keep: Where tokens are kept; in memory without it.
    """

    def __init__(
        self,
        transport: Transport,
        credentials: Password | ClientSecret | None = None,
        *,
        keep: TokenStore | None = None,
    ) -> None:
        self.login = Login(transport, credentials, keep)
        self.caller = Caller(transport, self.login)
        self.orders = Orders(self.caller)
        self.products = Products(self.caller)
        self.inventory = Inventory(self.caller)


@asynccontextmanager
async def open_client(
    url: str, credentials: Password | ClientSecret | None = None, *, keep: TokenStore | None = None
) -> AsyncIterator[Client]:
    """A client with connections of its own."""
    async with connect(url) as transport:
        yield Client(transport, credentials, keep=keep)
