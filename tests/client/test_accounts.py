"""Access tokens: one request for concurrent callers, renewal in time, refresh tokens used once."""

import asyncio
from typing import Any

import pytest

from orderplane.client.accounts import (
    EARLY_SECONDS,
    Caller,
    ClientSecret,
    Login,
    MemoryTokenStore,
    Password,
    Tokens,
)
from orderplane.client.transport import NO_ANSWER, ApiProblem, Request, Transport

from .conftest import PROBLEM, Script

ADA = Password("ada@example.test", "secret")
READ = Request("GET", "/api/orders")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def granted(number: int, *, refresh: bool = True) -> dict[str, Any]:
    document: dict[str, Any] = {"access_token": f"access-{number}", "expires_in": 900}
    return document | ({"refresh_token": f"refresh-{number}"} if refresh else {})


async def test_many_at_once_ask_once(script: Script, transport: Transport) -> None:
    script.then(200, granted(1))
    login = Login(transport, ADA)
    assert set(await asyncio.gather(*(login.token() for _ in range(20)))) == {"access-1"}
    assert [asked.form for asked in script.asked] == [
        {"grant_type": "password", "username": "ada@example.test", "password": "secret"}
    ]


async def test_a_token_is_renewed_before_it_runs_out(script: Script, transport: Transport) -> None:
    clock = Clock()
    login = Login(transport, ADA, unix_time=clock)
    script.then(200, granted(1)).then(200, granted(2)).then(200, granted(3))
    assert await login.token() == "access-1"
    clock.now += 900 - EARLY_SECONDS - 1
    assert await login.token() == "access-1"
    clock.now += 2
    assert set(await asyncio.gather(*(login.token() for _ in range(20)))) == {"access-2"}
    clock.now += 900
    assert await login.token() == "access-3"
    assert [asked.form.get("refresh_token") for asked in script.asked] == [None, "refresh-1", "refresh-2"]


async def test_a_refresh_that_is_refused_is_a_new_login_for_who_has_the_password(
    script: Script, transport: Transport
) -> None:
    for credentials in (ADA, None):
        old = MemoryTokenStore(Tokens("old", 0.0, "used-up"))
        login = Login(transport, credentials, old)
        script.then(400, PROBLEM | {"code": "invalid_grant"})
        if credentials:
            script.then(200, granted(1))
            assert await login.token() == "access-1"
        else:
            with pytest.raises(ApiProblem, match="invalid_grant"):
                await login.token()


async def test_a_refresh_token_is_never_sent_twice(script: Script, transport: Transport) -> None:
    """The second would look like a thief's, and end the login."""
    script.hang_up()
    with pytest.raises(ApiProblem) as problem:
        await Login(transport, None, MemoryTokenStore(Tokens("old", 0.0, "refresh-1"))).token()
    assert problem.value.code == NO_ANSWER
    assert len(script.asked) == 1


async def test_a_login_may_be_tried_again(script: Script, transport: Transport) -> None:
    script.then(503, PROBLEM, Retry_After="0").hang_up().then(200, granted(1))
    assert await Login(transport, ADA).token() == "access-1"


async def test_services_show_their_secret_again(script: Script, transport: Transport) -> None:
    clock = Clock()
    login = Login(transport, ClientSecret("c-1", "hush", "other-shop"), unix_time=clock)
    script.then(200, granted(1, refresh=False)).then(200, granted(2, refresh=False))
    await login.token()
    clock.now += 900
    assert await login.token() == "access-2"
    form = {
        "grant_type": "client_credentials",
        "client_id": "c-1",
        "client_secret": "hush",
        "merchant": "other-shop",
    }
    assert [asked.form for asked in script.asked] == [form, form]


async def test_a_token_that_is_refused_is_replaced_once(script: Script, transport: Transport) -> None:
    login = Login(transport, ADA, MemoryTokenStore(Tokens("stale", 1e12, "refresh-1")))
    caller = Caller(transport, login)
    refusal = PROBLEM | {"code": "invalid_token"}
    script.then(401, refusal).then(200, granted(2)).then(200, {"items": []})
    assert (await caller.send(READ)).document == {"items": []}
    assert [asked.headers.get("Authorization") for asked in script.asked] == [
        "Bearer stale",
        None,
        "Bearer access-2",
    ]
    script.then(401, refusal).then(200, granted(3)).then(401, refusal)
    with pytest.raises(ApiProblem, match="invalid_token"):
        await caller.send(READ)


async def test_who_is_not_logged_in_is_told_so(transport: Transport) -> None:
    with pytest.raises(ApiProblem, match="Log in first") as problem:
        await Login(transport).token()
    assert problem.value.code == "unauthenticated"


async def test_logging_out_forgets_here_whatever_happens_there(script: Script, transport: Transport) -> None:
    keep = MemoryTokenStore(Tokens("access", 1e12, "refresh-1"))
    login = Login(transport, None, keep)
    script.then(500, PROBLEM | {"code": "internal_error"})
    with pytest.raises(ApiProblem):
        await login.log_out()
    assert keep.read() is None
    await login.log_out()
    assert [asked.path for asked in script.asked] == ["/api/auth/logout"]
