"""Accounts: make one, and see whose it is."""

from typing import cast

from orderplane.client.answers import Profile
from orderplane.client.caller import Caller
from orderplane.client.transport import Request, Transport


async def register(
    transport: Transport, *, email: str, password: str, name: str = "", phone: str | None = None
) -> None:
    """Make a customer's account. For an address that has one nothing changes, and nobody is told.

    Raises:
        ApiProblem: `validation_failed`.
    """
    account = {"email": email, "password": password, "name": name} | ({"phone": phone} if phone else {})
    await transport.send(Request("POST", "/api/auth/register", json=account, is_harmless=True))


async def who_am_i(caller: Caller) -> Profile:
    """The account that is logged in.

    Raises:
        ApiProblem: `insufficient_scope`: it is a service's.
    """
    return cast("Profile", (await caller.send(Request("GET", "/api/users/me"))).document)


async def prefer(caller: Caller, *, email: bool, sms: bool) -> Profile:
    """Choose the channels through which one is told of one's orders.

    Raises:
        ApiProblem: `insufficient_scope`: it is a service's.
    """
    wish = {"preferences": {"email": email, "sms": sms}}
    request = Request("PATCH", "/api/users/me", json=wish, is_harmless=True)
    return cast("Profile", (await caller.send(request)).document)
