"""A typed client of the gateway: `async with open_client(url, Password(...)) as client`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orderplane.client.accounts import Caller, ClientSecret, Login, Password, TokenSource, TokenStore
from orderplane.client.operations import Operations
from orderplane.client.orders import Orders
from orderplane.client.price_rules import PriceRules
from orderplane.client.products import Inventory, Products
from orderplane.client.staff import Staff
from orderplane.client.transport import Transport, connect
from orderplane.client.webhook_endpoints import WebhookEndpoints


class Client:
    """All operations of one caller, who is logged in with the first request.

    Args:
        token_store: Where tokens are stored; by default in memory.
        tokens: Where access tokens come from, in place of a login at the gateway.
    """

    def __init__(
        self,
        transport: Transport,
        credentials: Password | ClientSecret | None = None,
        *,
        token_store: TokenStore | None = None,
        tokens: TokenSource | None = None,
    ) -> None:
        self.login = Login(transport, credentials, token_store)
        self.caller = Caller(transport, tokens or self.login)
        self.orders = Orders(self.caller)
        self.products = Products(self.caller)
        self.price_rules = PriceRules(self.caller)
        self.inventory = Inventory(self.caller)
        self.webhook_endpoints = WebhookEndpoints(self.caller)
        self.operations = Operations(self.caller)
        self.staff = Staff(self.caller)


@asynccontextmanager
async def open_client(
    url: str, credentials: Password | ClientSecret | None = None, *, token_store: TokenStore | None = None
) -> AsyncIterator[Client]:
    """A client with its own connections."""
    async with connect(url) as transport:
        yield Client(transport, credentials, token_store=token_store)
