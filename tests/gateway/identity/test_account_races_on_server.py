"""A password is compared, and meanwhile the account changes; PostgreSQL is real.

The routes run in this process, so that one can be held where it compares.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI

from orderplane.adapters.limits.memory import MemoryCounters
from orderplane.adapters.postgres.pool import open_pool
from orderplane.dev.localplane.plane import Plane
from orderplane.events.account_messages import MAX_GUESSES
from orderplane.events.account_messages import AccountMessageKind as Kind
from orderplane.gateway.front_door import FrontDoor
from orderplane.gateway.identity import auth_routes, confirmation_routes, user_routes
from orderplane.gateway.identity.account_messages import AccountMessages
from orderplane.gateway.identity.authentication import AccountCache
from orderplane.gateway.identity.confirmations import Confirmations
from orderplane.gateway.identity.grants import AccountServices, Grants
from orderplane.gateway.identity.keyring import KeyRing
from orderplane.gateway.identity.login_store import LoginStore
from orderplane.gateway.identity.login_throttle import KnownAddresses, LoginThrottle
from orderplane.gateway.identity.message_limits import MessageLimits
from orderplane.gateway.identity.passwords import Passwords
from orderplane.gateway.identity.tokens import TokenRules
from orderplane.gateway.identity.user_store import UserStore, new_user_id
from orderplane.gateway.principal import SCOPES_OF, Principal, Role
from orderplane.ledgers.postgres.session import Connection, Pool, transaction

from ...support.accounts import secret_to

pytestmark = pytest.mark.integration

SHOP, OLD, NEW = "races-shop", "the old password", "the password of the owner"
OLD_HASH = PasswordHasher(time_cost=1, memory_cost=1024).hash(OLD)
"""With outdated parameters: a login replaces it."""

WAITING = """
WITH RECURSIVE blocked AS (
    SELECT $1::int AS pid
    UNION SELECT a.pid FROM pg_stat_activity a, blocked b WHERE b.pid = ANY(pg_blocking_pids(a.pid))
)
SELECT count(*) - 1 FROM blocked
"""
PLACES = 16
"""Computations that a gateway lets in at once."""

Meanwhile = Callable[[], Awaitable[Any]]


def code_of(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json()["code"] if answer.is_error else None


class HeldPasswords(Passwords):
    """Passwords; after one was compared, and before anybody is told, something else happens once."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Meanwhile | None = None

    async def matches(self, password: str, known: str | None) -> bool:
        is_match = await super().matches(password, known)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return is_match


class Door:
    """The routes for accounts, and one account; `http` is somebody who knows its old password."""

    def __init__(self, pool: Pool, plane: Plane, passwords: HeldPasswords) -> None:
        self.pool, self.passwords = pool, passwords
        self.users, self.logins = UserStore(pool), LoginStore(pool)
        self.confirmations, self.messages = Confirmations(pool), AccountMessages(pool)
        throttle = LoginThrottle(MemoryCounters(), KnownAddresses(pool))
        ring = KeyRing(plane.signing_keys)
        grants = Grants(self.users, self.logins, passwords, throttle, ring, TokenRules("issuer", "audience"))
        identity = AccountServices(
            merchant=SHOP, trusted_proxies=(), takes_smtputf8=False, accounts=AccountCache(self.users),
            messages=self.messages, message_limits=MessageLimits(None), confirmations=self.confirmations,
            users=self.users, logins=self.logins, passwords=passwords, ring=ring, throttle=throttle,
            grants=grants,
        )  # fmt: skip
        api = FastAPI(openapi_url=None)
        api.state.services = SimpleNamespace(identity=identity, authentication=self)
        for routes in (auth_routes, confirmation_routes, user_routes):
            api.include_router(routes.router)
        transport = httpx.ASGITransport(FrontDoor(api), client=("192.0.2.1", 1))
        headers = {"Authorization": "Bearer any"}
        self.http = httpx.AsyncClient(transport=transport, base_url="http://door.test", headers=headers)
        self.user_id = new_user_id()
        self.email = f"{self.user_id}@example.test"
        self.login: str | None = None

    async def caller(self, _token: str) -> Principal:
        """As `Authentication`: the token was good when the request came."""
        scopes = SCOPES_OF[Role.CUSTOMER]
        return Principal(SHOP, self.user_id, Role.CUSTOMER, scopes, self.login, time.time())

    async def log_in(self, password: str = OLD) -> httpx.Response:
        form = {"grant_type": "password", "username": self.email, "password": password}
        return await self.http.post("/api/auth/login", data=form)

    async def link(self, kind: Kind = Kind.PASSWORD_RESET) -> str:
        """A link that arrived."""
        if kind is Kind.REGISTRATION:
            await self.confirmations.register(SHOP, self.email, password_hash=OLD_HASH, name="", phone=None)
        else:
            await self.confirmations.request_reset(SHOP, self.email)
        return await secret_to(self.pool, self.email, kind)

    async def reset(self, token: str | None = None) -> httpx.Response:
        body = {"token": token or await self.link(), "newPassword": NEW}
        return await self.http.post("/api/auth/password-reset/confirm", json=body)

    async def delete(self) -> None:
        assert await self.users.delete(SHOP, self.user_id)

    async def count(self, table: str, condition: str = "true") -> int:
        """Rows about the account."""
        found: int = await self.pool.fetchval(
            f"SELECT count(*) FROM {table} WHERE user_id = $1 AND {condition}",  # noqa: S608
            self.user_id,
        )
        return found

    async def password_is(self, password: str) -> bool:
        known = await self.users.password_hash(SHOP, self.user_id)
        return await self.passwords.matches(password, known)


@pytest.fixture
async def door(plane: Plane) -> AsyncIterator[Door]:
    pool = await open_pool(plane.postgres_dsn, size=4)
    async with HeldPasswords() as passwords:
        door = Door(pool, plane, passwords)
        await door.users.add(
            SHOP, door.user_id, email=door.email, password_hash=OLD_HASH, role="customer",
            is_confirmed=True,
        )  # fmt: skip
        yield door
        await door.http.aclose()
    await pool.close()


@pytest.mark.parametrize("way", ["reset", "delete"])
async def test_a_login_that_began_with_another_password_does_not_live_on(door: Door, way: str) -> None:
    door.passwords.meanwhile = door.reset if way == "reset" else door.delete
    answer = await door.log_in()
    assert code_of(answer) == (400, "invalid_grant")
    assert await door.count("logins", "revoked_at IS NULL") == 0
    # The network from where the owner has reset the password is known; nothing of a deleted user is.
    assert await door.count("known_addresses") == (1 if way == "reset" else 0)
    row = await door.pool.fetchrow("SELECT password_hash FROM users WHERE id = $1", door.user_id)
    assert row is not None
    assert (row["password_hash"] == "") == (way == "delete"), "the old hash does not come back"
    assert await door.password_is(NEW) == (way == "reset")


async def test_an_outdated_hash_is_replaced_by_the_login_and_never_by_an_old_password(door: Door) -> None:
    outdated = await door.users.password_hash(SHOP, door.user_id)
    assert outdated is not None
    assert (await door.log_in()).status_code == 200
    assert await door.users.password_hash(SHOP, door.user_id) != outdated
    assert await door.password_is(OLD)
    # Two hashes later the first login writes its own.
    assert (await door.reset()).status_code == 204
    await door.users.rehash_password(SHOP, door.user_id, OLD_HASH, checked=outdated)
    assert await door.password_is(NEW)


async def test_who_knew_the_old_password_does_not_change_it_after_a_reset(door: Door) -> None:
    door.passwords.meanwhile = door.reset
    body = {"currentPassword": OLD, "newPassword": "the password of the thief"}
    answer = await door.http.put("/api/users/me/password", json=body)
    assert code_of(answer) == (403, "wrong_password")
    assert await door.password_is(NEW)


@pytest.mark.parametrize("way", ["reset", "delete"])
async def test_who_knew_the_old_password_proposes_no_address_afterwards(door: Door, way: str) -> None:
    door.passwords.meanwhile = door.reset if way == "reset" else door.delete
    body = {"currentPassword": OLD, "email": f"thief-{door.email}"}
    answer = await door.http.put("/api/users/me/email", json=body)
    assert code_of(answer) == (403, "wrong_password")
    assert await door.count("account_messages", "kind = 'NewEmail'") == 0


async def test_a_login_that_has_ended_deletes_nothing_and_takes_no_address(door: Door) -> None:
    assert (await door.log_in()).status_code == 200
    door.login = str(await door.pool.fetchval("SELECT id FROM logins WHERE user_id = $1", door.user_id))
    body = {"currentPassword": OLD, "email": f"thief-{door.email}"}
    assert (await door.http.put("/api/users/me/email", json=body)).status_code == 202
    link = await secret_to(door.pool, f"thief-{door.email}", Kind.NEW_EMAIL)
    assert (await door.reset()).status_code == 204
    confirmed = await door.http.post("/api/users/me/email/confirm", json={"token": link})
    assert code_of(confirmed) == (400, "invalid_confirmation")
    deleted = await door.http.delete("/api/users/me")
    assert code_of(deleted) == (401, "invalid_token")
    user = await door.users.find(SHOP, door.user_id)
    assert user is not None
    assert user.email == door.email


async def test_nothing_is_sent_for_a_user_who_was_deleted(door: Door) -> None:
    await door.delete()
    await door.confirmations.propose_phone(SHOP, door.user_id, "+31970000001")
    assert await door.count("account_messages", "address IS NOT NULL") == 0


@pytest.mark.parametrize("other", ["reset", "change", "propose", "delete", "everywhere"])
async def test_a_confirmation_waits_for_the_account_and_holds_nothing_meanwhile(
    door: Door, other: str
) -> None:
    """Else two of them would each hold what the other needs."""
    mine, others = [await door.messages.open_link(Kind.PASSWORD_RESET, await door.link()) for _ in range(2)]
    assert mine is not None
    assert others is not None
    known = await door.users.password_hash(SHOP, door.user_id)
    assert known is not None

    async def act() -> object:
        match other:
            case "reset":
                return await door.confirmations.reset_password(others, "other")
            case "change":
                return await door.confirmations.change_password(SHOP, door.user_id, "other", checked=known)
            case "propose":
                return await door.confirmations.propose_email(SHOP, door.user_id, door.email, checked=known)
            case "delete":
                return await door.users.delete(SHOP, door.user_id)
            case _:
                return await door.logins.revoke_all(SHOP, door.user_id)

    async with asyncio.timeout(20), asyncio.TaskGroup() as both, held(door) as holder:
        resetting = both.create_task(door.confirmations.reset_password(mine, "mine"))
        await others_waiting(holder, 1)
        acting = both.create_task(act())
        await others_waiting(holder, 2)
        # Whoever has the account can have everything else.
        for table in ("account_messages", "logins"):
            await holder.execute(
                f"SELECT FROM {table} WHERE user_id = $1 FOR UPDATE NOWAIT",
                door.user_id,
            )
    assert resetting.result() is True, "it came first"
    if other == "reset":
        assert acting.result() is False, "the first has let the other link expire"
    elif other in ("change", "propose"):
        assert acting.result() is False, "the password is another one"


@asynccontextmanager
async def held(door: Door) -> AsyncIterator[Connection]:
    """A transaction that has the account."""
    async with transaction(door.pool) as connection:
        await connection.execute("SELECT FROM users WHERE id = $1 FOR UPDATE", door.user_id)
        yield connection


async def others_waiting(connection: Connection, number: int) -> None:
    """Wait until so many others wait for this connection, or for one that does."""
    pid = await connection.fetchval("SELECT pg_backend_pid()")
    while await connection.fetchval(WAITING, pid) < number:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", [Kind.PASSWORD_RESET, Kind.REGISTRATION])
async def test_an_overloaded_gateway_uses_no_link_up(
    door: Door, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    if kind is Kind.REGISTRATION:
        await door.delete()
    link, go_on = await door.link(kind), threading.Event()

    def waits(_: PasswordHasher, password: str) -> str:
        go_on.wait(30)
        return OLD_HASH

    async def follow() -> int:
        if kind is Kind.PASSWORD_RESET:
            return (await door.reset(link)).status_code
        body = {"token": link, "password": OLD}
        return (await door.http.post("/api/auth/register/confirm", json=body)).status_code

    monkeypatch.setattr(PasswordHasher, "hash", waits)
    queue = [asyncio.create_task(door.passwords.hash(OLD)) for _ in range(PLACES)]
    await asyncio.sleep(0)  # each has its place
    try:
        assert [await follow() for _ in range(MAX_GUESSES + 1)] == [503] * (MAX_GUESSES + 1)
    finally:
        go_on.set()
        await asyncio.gather(*queue)
    guesses = await door.pool.fetchval("SELECT guesses FROM account_messages WHERE address = $1", door.email)
    assert guesses == 0
    assert await follow() == 204
