"""The customers of the demo. They register and log in through the public API."""

import asyncio
from dataclasses import dataclass, field

from orderplane.client.accounts import MemoryTokenStore, Password, register, set_preferences
from orderplane.client.client import Client
from orderplane.client.transport import Transport

COUNT = 12
_PASSWORD = "a password for the demo only"  # noqa: S105
_PREFERENCES = (
    {"email": True, "sms": True}, {"email": True, "sms": False}, {"email": False, "sms": True},
    {"email": False, "sms": False},
)  # fmt: skip
"""Notification preferences, given to the customers in turn."""


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer, whose tokens are kept across connections."""

    credentials: Password
    keep: MemoryTokenStore = field(default_factory=MemoryTokenStore)

    def client(self, transport: Transport) -> Client:
        """A client that acts as this customer."""
        return Client(transport, self.credentials, token_store=self.keep)


async def arrive(transport: Transport, count: int = COUNT) -> list[Customer]:
    """Register and log in `count` customers. One who has an account already is only logged in.

    Raises:
        ApiProblem: the gateway refused a login.
    """
    return list(await asyncio.gather(*(_arrive(transport, number) for number in range(1, count + 1))))


async def _arrive(transport: Transport, number: int) -> Customer:
    customer = Customer(Password(f"customer-{number}@example.test", _PASSWORD))
    email, password = customer.credentials.email, customer.credentials.password
    name, phone = f"Customer {number}", f"+31970{number:08d}"
    await register(transport, email=email, password=password, name=name, phone=phone)
    client = customer.client(transport)
    await client.login.log_in()
    await set_preferences(client.caller, **_PREFERENCES[number % len(_PREFERENCES)])
    return customer
