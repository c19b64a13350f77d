"""Addresses and numbers are confirmed before they count; the gateway and PostgreSQL are real.

Links and codes come from `support.accounts`; tests/workers/notifier shows that the real ones arrive.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from orderplane.events.account_messages import MAX_GUESSES
from orderplane.events.account_messages import AccountMessageKind as Kind
from orderplane.gateway.identity.user_store import UserStore
from orderplane.ledgers.postgres.retention import RULES, PostgresRetention

from ...support.accounts import secret_to
from ..conftest import MERCHANT, Behind, Gateway, running_gateway
from .test_accounts_on_server import PASSWORD, Visitor, code_of, refused_at

pytestmark = pytest.mark.integration

NUMBER, ANOTHER = "+31970000001", "another password"


@pytest.fixture
async def visitor(gateway: Gateway, behind: Behind) -> AsyncIterator[Visitor]:
    visitor = Visitor(gateway.url, behind.pool)
    yield visitor
    await visitor.http.aclose()


@pytest.fixture
async def ada(visitor: Visitor) -> Visitor:
    """A customer who is logged in."""
    await visitor.arrive()
    assert (await visitor.log_in()).status_code == 200
    return visitor


async def messages_to(behind: Behind, address: str) -> list[str]:
    """The kinds of the messages to an address, the oldest first."""
    rows = await behind.pool.fetch(
        "SELECT kind FROM account_messages WHERE address = $1 ORDER BY created_at", address
    )
    return [row["kind"] for row in rows]


class Owner:
    """Ada's requests about her account."""

    def __init__(self, ada: Visitor) -> None:
        self._ada = ada

    async def send(self, method: str, path: str, body: Any) -> httpx.Response:
        return await self._ada.http.request(method, path, json=body, headers=self._ada.headers)

    async def change_email(self, email: str, password: str = PASSWORD) -> httpx.Response:
        return await self.send("PUT", "/api/users/me/email", {"email": email, "currentPassword": password})

    async def confirm_email(self, email: str) -> httpx.Response:
        token = await secret_to(self._ada.pool, email, Kind.NEW_EMAIL)
        return await self.send("POST", "/api/users/me/email/confirm", {"token": token})

    async def change_phone(self, phone: str | None) -> httpx.Response:
        return await self.send("PATCH", "/api/users/me", {"phone": phone})

    async def confirm_phone(self, code: str) -> httpx.Response:
        return await self.send("POST", "/api/users/me/phone/confirm", {"code": code})

    async def ask_for_reset(self) -> httpx.Response:
        return await self._ada.http.post("/api/auth/password-reset", json={"email": self._ada.email})

    async def reset(self, token: str, password: str = ANOTHER) -> httpx.Response:
        body = {"token": token, "newPassword": password}
        return await self._ada.http.post("/api/auth/password-reset/confirm", json=body)


async def test_there_is_no_account_before_the_address_is_confirmed(behind: Behind, visitor: Visitor) -> None:
    await visitor.register()
    early = await visitor.log_in()
    assert code_of(early) == (400, "invalid_grant")
    assert (await visitor.confirm()).status_code == 204
    assert (await visitor.log_in()).status_code == 200
    me = (await visitor.me()).json()
    assert (me["emailConfirmed"], me["phone"], me["unconfirmedPhone"]) == (True, None, NUMBER)
    # The number is asked once there is an account, so that nobody has codes sent to strangers.
    row = await behind.pool.fetchrow(
        "SELECT channel, address FROM account_messages WHERE kind = 'NewPhone' AND user_id = $1", me["id"]
    )
    assert row is not None
    assert (row["channel"], row["address"]) == ("sms", NUMBER)
    # A login before it told nothing: it is the answer to an address that nobody has registered.
    visitor.email = f"{uuid4().hex}@example.test"
    assert (await visitor.log_in()).content == early.content


async def test_a_link_is_good_once(visitor: Visitor) -> None:
    await visitor.register()
    token = await secret_to(visitor.pool, visitor.email, Kind.REGISTRATION)
    body = {"token": token, "password": PASSWORD}
    answers = await asyncio.gather(
        *(visitor.http.post("/api/auth/register/confirm", json=body) for _ in range(4))
    )
    assert sorted(answer.status_code for answer in answers) == [204, 400, 400, 400]


async def test_whoever_registers_a_strangers_address_does_not_keep_it(
    behind: Behind, visitor: Visitor
) -> None:
    await visitor.register(password="the password of Eve", name="Eve", phone=None)
    eves = await secret_to(visitor.pool, visitor.email, Kind.REGISTRATION)
    # The stranger follows the link: without Eve's password it makes no account.
    wrong = await visitor.http.post("/api/auth/register/confirm", json={"token": eves, "password": PASSWORD})
    assert code_of(wrong) == (403, "wrong_password")
    # It does not stand in their way either.
    await visitor.arrive()
    assert (await visitor.log_in()).status_code == 200
    assert (await visitor.me()).json()["name"] == "Ada Example"
    late = await visitor.http.post(
        "/api/auth/register/confirm", json={"token": eves, "password": "the password of Eve"}
    )
    assert code_of(late) == (400, "invalid_confirmation")
    assert code_of(await visitor.log_in("the password of Eve")) == (400, "invalid_grant")


async def test_a_link_does_not_let_anybody_guess_its_password(visitor: Visitor) -> None:
    await visitor.register()
    token = await secret_to(visitor.pool, visitor.email, Kind.REGISTRATION)
    guesses = [
        await visitor.http.post("/api/auth/register/confirm", json={"token": token, "password": f"guess {n}"})
        for n in range(MAX_GUESSES + 1)
    ]
    assert [code_of(answer)[0] for answer in guesses] == [403] * MAX_GUESSES + [400]
    right = {"token": token, "password": PASSWORD}
    assert (await visitor.http.post("/api/auth/register/confirm", json=right)).status_code == 400


@pytest.mark.parametrize("kind", ["register", "password-reset"])
async def test_no_answer_and_no_time_tells_who_has_an_account(ada: Visitor, kind: str) -> None:
    async def ask(email: str) -> tuple[httpx.Response, float]:
        body = {"email": email} | ({"password": PASSWORD} if kind == "register" else {})
        started = time.perf_counter()
        answer = await ada.http.post(f"/api/auth/{kind}", json=body)
        return answer, time.perf_counter() - started

    known, unknown = [], []
    for _ in range(8):
        known.append(await ask(ada.email))
        unknown.append(await ask(f"{uuid4().hex}@example.test"))
    assert {(answer.status_code, answer.content) for answer, _ in known + unknown} == {
        (202, known[0][0].content)
    }
    assert 0.3 < min(took for _, took in known) / min(took for _, took in unknown) < 3
    assert "set-cookie" not in known[0][0].headers


async def test_an_expired_link_confirms_nothing(behind: Behind, visitor: Visitor) -> None:
    await visitor.register()
    await secret_to(visitor.pool, visitor.email, Kind.REGISTRATION)
    await behind.pool.execute(
        "UPDATE account_messages SET expires_at = now() WHERE address = $1", visitor.email
    )
    assert code_of(await visitor.confirm()) == (400, "invalid_confirmation")


@pytest.mark.parametrize(
    "token",
    ["0" * 32 + ".x", "3f2b8c1d9e4a4f0c8b7a6d5e4c3b2a19.Zk3uBpoUuOIq1x9GmW2vT7cRa5sY8dLe"],
)
async def test_a_made_up_link_confirms_nothing(ada: Visitor, token: str) -> None:
    owner = Owner(ada)
    for answer in (
        await owner.send("POST", "/api/auth/register/confirm", {"token": token, "password": PASSWORD}),
        await owner.send("POST", "/api/users/me/email/confirm", {"token": token}),
        await owner.reset(token),
    ):
        assert code_of(answer) == (400, "invalid_confirmation")


async def test_a_link_is_good_for_nothing_but_what_it_was_sent_for(ada: Visitor) -> None:
    owner = Owner(ada)
    await owner.ask_for_reset()
    reset = await secret_to(ada.pool, ada.email, Kind.PASSWORD_RESET)
    answer = await owner.send("POST", "/api/users/me/email/confirm", {"token": reset})
    assert code_of(answer) == (400, "invalid_confirmation")
    await owner.change_email(f"new-{ada.email}")
    link = await secret_to(ada.pool, f"new-{ada.email}", Kind.NEW_EMAIL)
    assert code_of(await owner.reset(link)) == (400, "invalid_confirmation")


async def test_a_forgotten_password_is_set_anew_by_mail(behind: Behind, ada: Visitor) -> None:
    owner, old, refresh = Owner(ada), ada.headers, ada.tokens["refresh_token"]
    assert (await owner.ask_for_reset()).status_code == 202
    token = await secret_to(ada.pool, ada.email, Kind.PASSWORD_RESET)
    other = await owner.ask_for_reset()
    assert other.status_code == 202
    unused = await secret_to(ada.pool, ada.email, Kind.PASSWORD_RESET)
    assert code_of(await owner.reset(token, "short")) == (422, "validation_failed")
    assert (await owner.reset(token)).status_code == 204
    await refused_at(str(ada.http.base_url), old)
    assert code_of(await ada.refresh(refresh)) == (400, "invalid_grant")
    assert code_of(await ada.log_in()) == (400, "invalid_grant")
    for spent in (token, unused):
        assert code_of(await owner.reset(spent, "a third password")) == (400, "invalid_confirmation")
    assert (await ada.log_in("another password")).status_code == 200
    assert (await messages_to(behind, ada.email))[-1] == Kind.PASSWORD_CHANGED


async def test_a_reset_gets_the_owner_in_while_others_guess(behind: Behind) -> None:
    async with running_gateway(behind.plane, {"ORDERPLANE_TRUSTED_PROXIES": "127.0.0.0/8"}) as fresh:
        ada = Visitor(fresh.url, behind.pool)
        await ada.arrive()
        for number in range(1, 6):
            ada.http.headers["X-Forwarded-For"] = f"198.51.100.{number}"
            for _ in range(10):
                await ada.log_in("a wrong password")
        ada.http.headers["X-Forwarded-For"] = "192.0.2.1"
        assert code_of(await ada.log_in()) == (429, "too_many_logins")
        owner = Owner(ada)
        await owner.ask_for_reset()
        assert (
            await owner.reset(await secret_to(ada.pool, ada.email, Kind.PASSWORD_RESET))
        ).status_code == 204
        assert (await ada.log_in("another password")).status_code == 200
        await ada.http.aclose()


async def test_another_address_counts_once_it_is_confirmed(behind: Behind, ada: Visitor) -> None:
    owner, old, new = Owner(ada), ada.email, f"new-{ada.email}"
    assert code_of(await owner.change_email(new, "a wrong password")) == (403, "wrong_password")
    assert (await owner.change_email(new)).status_code == 202
    me = (await ada.me()).json()
    assert (me["email"], me["unconfirmedEmail"]) == (old, new)
    # A reset that the old mailbox has is good for nothing afterwards.
    await owner.ask_for_reset()
    reset = await secret_to(ada.pool, old, Kind.PASSWORD_RESET)
    assert (await owner.confirm_email(new)).status_code == 204
    me = (await ada.me()).json()
    assert (me["email"], me["unconfirmedEmail"], me["emailConfirmed"]) == (new, None, True)
    assert (await messages_to(behind, old))[-1] == Kind.EMAIL_CHANGED
    assert code_of(await owner.reset(reset)) == (400, "invalid_confirmation")
    assert code_of(await ada.log_in()) == (400, "invalid_grant")
    ada.email = new
    assert (await ada.log_in()).status_code == 200


async def test_nobody_but_who_named_an_address_confirms_it(
    gateway: Gateway, behind: Behind, ada: Visitor
) -> None:
    eve = Visitor(gateway.url, behind.pool)
    await eve.arrive()
    await eve.log_in()
    await Owner(eve).change_email(f"new-{ada.email}")
    # Ada follows the link that Eve had sent to her.
    assert code_of(await Owner(ada).confirm_email(f"new-{ada.email}")) == (400, "invalid_confirmation")
    assert (await eve.me()).json()["email"] == eve.email
    await eve.http.aclose()


async def test_two_who_want_one_address_do_not_both_get_it(
    gateway: Gateway, behind: Behind, ada: Visitor
) -> None:
    eve, wanted = Visitor(gateway.url, behind.pool), f"{uuid4().hex}@example.test"
    await eve.arrive()
    await eve.log_in()
    answers = []
    for each in (ada, eve):
        assert (await Owner(each).change_email(wanted)).status_code == 202
        token = await secret_to(behind.pool, wanted, Kind.NEW_EMAIL)
        answers.append(Owner(each).send("POST", "/api/users/me/email/confirm", {"token": token}))
    assert sorted(answer.status_code for answer in await asyncio.gather(*answers)) == [204, 400]
    # Nor does one who asks for an address that has an account learn that.
    taken = await Owner(ada).change_email(eve.email)
    free = await Owner(ada).change_email(f"{uuid4().hex}@example.test")
    assert (taken.status_code, taken.content) == (free.status_code, free.content)
    await eve.http.aclose()


async def test_a_number_counts_once_its_code_came_back(behind: Behind, ada: Visitor) -> None:
    owner, number = Owner(ada), f"+3197{uuid4().int % 10**9:09d}"
    changed = (await owner.change_phone(number)).json()
    assert (changed["phone"], changed["unconfirmedPhone"]) == (None, number)
    code = await secret_to(ada.pool, number, Kind.NEW_PHONE)
    assert (await owner.confirm_phone(code)).status_code == 204
    me = (await ada.me()).json()
    assert (me["phone"], me["unconfirmedPhone"]) == (number, None)
    assert code_of(await owner.confirm_phone(code)) == (400, "invalid_confirmation")
    # The old number stays until the next one is confirmed, and is told then.
    following = f"+3197{uuid4().int % 10**9:09d}"
    assert (await owner.change_phone(following)).json()["phone"] == number
    code = await secret_to(ada.pool, following, Kind.NEW_PHONE)
    assert (await owner.confirm_phone(code)).status_code == 204
    assert await messages_to(behind, number) == [Kind.NEW_PHONE, Kind.PHONE_CHANGED]
    assert (await owner.change_phone(None)).json()["phone"] is None


async def test_a_code_is_tried_five_times_also_at_once(ada: Visitor) -> None:
    owner, number = Owner(ada), f"+3197{uuid4().int % 10**9:09d}"
    await owner.change_phone(number)
    code = await secret_to(ada.pool, number, Kind.NEW_PHONE)
    wrong = f"{(int(code) + 1) % 10**6:06d}"
    guesses = await asyncio.gather(*(owner.confirm_phone(wrong) for _ in range(MAX_GUESSES)))
    assert {code_of(answer) for answer in guesses} == {(400, "invalid_confirmation")}
    assert code_of(await owner.confirm_phone(code)) == (400, "invalid_confirmation")
    # The number of an earlier code counts no more once another was named.
    await owner.change_phone(number)
    code = await secret_to(ada.pool, number, Kind.NEW_PHONE)
    await owner.change_phone(f"+3197{uuid4().int % 10**9:09d}")
    assert code_of(await owner.confirm_phone(code)) == (400, "invalid_confirmation")


async def test_one_user_asks_for_few_messages(behind: Behind) -> None:
    limits = {"ORDERPLANE_RATE_LIMITS": "auth=1000/1000"}
    async with running_gateway(behind.plane, limits) as limited:
        ada = Visitor(limited.url, behind.pool)
        await ada.arrive()
        await ada.log_in()
        owner = Owner(ada)
        answers = [await owner.change_phone(f"+3197{number:09d}") for number in range(12)]
        assert [answer.status_code for answer in answers] == [200] * 10 + [429] * 2
        assert code_of(answers[-1]) == (429, "rate_limited")
        assert int(answers[-1].headers["Retry-After"]) > 0
        # Neither does one address ask for many strangers.
        asked = [
            await ada.http.post("/api/auth/password-reset", json={"email": f"{n}@example.test"})
            for n in range(70)
        ]
        assert [answer.status_code for answer in asked][-1] == 429
        await ada.http.aclose()


async def test_an_account_of_an_admin_is_asked_for_its_address(behind: Behind, gateway: Gateway) -> None:
    users, boss = UserStore(behind.pool), Visitor(gateway.url, behind.pool)
    await boss.arrive()
    await behind.pool.execute("UPDATE users SET role = 'admin' WHERE email = $1", boss.email)
    await boss.log_in()
    cleo = Visitor(gateway.url, behind.pool)
    body = {"email": cleo.email, "password": PASSWORD, "role": "merchant"}
    made = await boss.http.post("/api/users", json=body, headers=boss.headers)
    assert (made.status_code, made.json()["emailConfirmed"]) == (201, False)
    assert await messages_to(behind, cleo.email) == [Kind.NEW_EMAIL]
    assert (await cleo.log_in()).status_code == 200
    assert (await Owner(cleo).confirm_email(cleo.email)).status_code == 204
    found = await users.find(MERCHANT, made.json()["id"])
    assert found is not None
    assert found.is_email_confirmed
    for visitor in (boss, cleo):
        await visitor.http.aclose()


async def test_what_was_asked_for_is_not_kept(behind: Behind, ada: Visitor) -> None:
    stranger = f"{uuid4().hex}@example.test"
    await ada.register(email=stranger)
    await Owner(ada).change_email(f"new-{ada.email}")
    assert (await ada.http.delete("/api/users/me", headers=ada.headers)).status_code == 204
    await behind.pool.execute(
        "UPDATE account_messages SET expires_at = now() - interval '25 hours' WHERE address = $1", stranger
    )
    for rule in RULES:
        if rule.table == "account_messages":
            await PostgresRetention(behind.pool).purge(rule, 1000)
    rows = await behind.pool.fetch("SELECT * FROM account_messages")
    kept = json.dumps([[str(value) for value in row.values()] for row in rows])
    assert ada.email not in kept
    assert stranger not in kept
    left = await behind.pool.fetchval(
        "SELECT count(*) FROM registrations r LEFT JOIN account_messages m ON m.id = r.message "
        "WHERE m.address IS NULL"
    )
    assert left == 0
