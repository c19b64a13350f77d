"""Accounts and services of a merchant, for its admins."""

from typing import cast
from urllib.parse import quote

from orderplane.client.accounts import Caller
from orderplane.client.operation_responses import Account, AccountPage, NewService, ServicePage
from orderplane.client.transport import Request

_USERS, _CLIENTS = "/api/users", "/api/clients"


class Staff:
    """Every method raises ApiProblem: `insufficient_scope` for all but admins, and `route_not_found` where
    another issuer has the accounts. Changes need a login of the last ten minutes (`login_too_old`)."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def users(self, *, limit: int | None = None, cursor: str | None = None) -> AccountPage:
        """A page of users, by id."""
        request = Request("GET", _USERS, {"limit": limit, "cursor": cursor})
        return cast("AccountPage", (await self._caller.send(request)).document)

    async def create_user(self, *, email: str, password: str, role: str, name: str) -> Account:
        """Make an account; raises `email_taken`, `validation_failed`, too."""
        body = {"email": email, "password": password, "role": role, "name": name}
        return cast("Account", (await self._caller.send(Request("POST", _USERS, json=body))).document)

    async def delete_user(self, user_id: str) -> None:
        """Erase an account; raises `user_not_found`, too."""
        await self._caller.send(Request("DELETE", f"{_USERS}/{quote(user_id, safe='')}"))

    async def services(self, *, limit: int | None = None, cursor: str | None = None) -> ServicePage:
        """A page of services that can log in, by id."""
        request = Request("GET", _CLIENTS, {"limit": limit, "cursor": cursor})
        return cast("ServicePage", (await self._caller.send(request)).document)

    async def create_service(self, name: str) -> NewService:
        """Make the credentials of a service; the secret is in this answer only."""
        request = Request("POST", _CLIENTS, json={"name": name})
        return cast("NewService", (await self._caller.send(request)).document)

    async def revoke_service(self, client_id: str) -> None:
        """End the access of a service; raises `client_not_found`, too."""
        await self._caller.send(Request("DELETE", f"{_CLIENTS}/{quote(client_id, safe='')}"))
