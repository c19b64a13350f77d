"""The customers of the demo: they register and log in like anybody."""

import asyncio
from dataclasses import dataclass, field

from orderplane.client.accounts import MemoryTokenStore, Password, register, set_preferences
from orderplane.client.client import Client
from orderplane.client.transport import Transport

COUNT = 12
_PASSWORD = "a password for the demo only"  # noqa: S105
_WISHES = (
    {"email": True, "sms": True}, {"email": True, "sms": False}, {"email": False, "sms": True},
    {"email": False, "sms": False},
)  # fmt: skip
"""How they want to be told; they take turns."""


@dataclass(frozen=True, slots=True)
class Customer:
    """One who has an account, and stays logged in whatever connections they come by."""

    credentials: Password
    keep: MemoryTokenStore = field(default_factory=MemoryTokenStore)

    def client(self, transport: Transport) -> Client:
        """The gateway as they use it."""
        return Client(transport, self.credentials, token_store=self.keep)


async def arrive(transport: Transport, count: int = COUNT) -> list[Customer]:
    """Have `count` customers register, and log in. Who has an account already just logs in.

    Raises:
        ApiProblem: the gateway does not let one in.
    """
    return list(await asyncio.gather(*(_arrive(transport, number) for number in range(1, count + 1))))


async def _arrive(transport: Transport, number: int) -> Customer:
    customer = Customer(Password(f"customer-{number}@example.test", _PASSWORD))
    email, password = customer.credentials.email, customer.credentials.password
    name, phone = f"Customer {number}", f"+31970{number:08d}"
    await register(transport, email=email, password=password, name=name, phone=phone)
    client = customer.client(transport)
    await client.login.log_in()
    await set_preferences(client.caller, **_WISHES[number % len(_WISHES)])
    return customer
