"""An account from its registration to a new password, by the client, with everything real."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from orderplane.client.accounts import (
    Password,
    change_email,
    confirm_email,
    confirm_phone,
    confirm_registration,
    end_logins,
    get_profile,
    register,
    request_password_reset,
    reset_password,
    set_preferences,
)
from orderplane.client.client import Client
from orderplane.client.transport import ApiProblem, connect
from orderplane.dev.demo.products import seed
from orderplane.dev.localplane.plane import Plane

from ...support.plane import ORDER, PASSWORD, Merchant

pytestmark = pytest.mark.integration

TOKEN = re.compile(r"^[0-9a-f]{32}\.[0-9a-f]+\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads mails and SMS at the sandboxes."""

    plane: Plane
    http: aiohttp.ClientSession

    async def mails(self, address: str) -> list[dict[str, Any]]:
        """The oldest first."""
        page = await self._get("MAILBOX", "/api/v1/messages?limit=10000")
        return [
            await self._get("MAILBOX", f"/api/v1/message/{mail['ID']}")
            for mail in reversed(page["messages"])
            if mail["To"][0]["Address"] == address
        ]

    async def texts(self, number: str) -> list[str]:
        """The oldest first."""
        account = self.plane.env("admin")["ORDERPLANE_SMS_KEY"].partition(":")[0]
        path = f"/2010-04-01/Accounts/{account}/Messages.json?PageSize=1000&To={quote(number)}"
        return [sms["body"] for sms in reversed((await self._get("SMS", path))["messages"])]

    async def token(self, address: str, number: int = 1) -> str:
        """The token in a mail; waits until so many have come."""
        return TOKEN.findall((await self.wait(lambda: self.mails(address), number))[number - 1]["Text"])[
            0
        ].strip()

    async def wait(self, read: Callable[[], Awaitable[list[Any]]], number: int) -> list[Any]:
        """What was read, as soon as there is so much."""
        async with asyncio.timeout(60):
            while len(found := await read()) < number:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        return found

    async def _get(self, sandbox: str, path: str) -> dict[str, Any]:
        env = self.plane.env("admin")
        headers = {"Authorization": f"Bearer {env[f'ORDERPLANE_{sandbox}_KEY']}"}
        async with self.http.get(env[f"ORDERPLANE_{sandbox}_URL"] + path, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            document: dict[str, Any] = await answer.json()
            return document


async def test_an_account_from_its_registration_to_a_new_password(merchant: Merchant) -> None:
    plane, email = merchant.plane, f"{secrets.token_hex(6)}@example.org"
    new_email, phone = f"new-{email}", f"+3197{secrets.randbelow(10**9):09d}"
    await seed(merchant.pool)
    async with connect(plane.url("gateway")) as transport, aiohttp.ClientSession() as http:
        reader, ada = Reader(plane, http), Client(transport, Password(email, PASSWORD))
        await register(transport, email=email, password=PASSWORD, name="Ada", phone=phone)
        with pytest.raises(ApiProblem, match="invalid_grant"):
            await ada.login.log_in()
        await confirm_registration(transport, token=await reader.token(email), password=PASSWORD)
        await ada.login.log_in()
        (text,) = await reader.wait(lambda: reader.texts(phone), 1)
        await confirm_phone(ada.caller, code=re.findall(r"\b[0-9]{6}\b", text)[0])
        await set_preferences(ada.caller, email=True, sms=True)

        # Now what happens to an order is told to both.
        order = await ada.orders.create(ORDER, key=secrets.token_hex(8))
        mails = await reader.wait(lambda: reader.mails(email), 4)
        assert [order["id"] in mail["Subject"] for mail in mails] == [False, True, True, True]
        texts = await reader.wait(lambda: reader.texts(phone), 3)
        assert all(order["id"] in text for text in texts[1:])

        await change_email(ada.caller, email=new_email, current_password=PASSWORD)
        await confirm_email(ada.caller, token=await reader.token(new_email))
        assert (await get_profile(ada.caller))["email"] == new_email
        mails = await reader.wait(lambda: reader.mails(email), 5)
        assert mails[4]["Subject"] == "Your address was changed"

        await request_password_reset(transport, email=new_email)
        await reset_password(
            transport, token=await reader.token(new_email, 2), new_password="another password"
        )
        mails = await reader.wait(lambda: reader.mails(new_email), 3)
        assert mails[2]["Subject"] == "Your password was changed"
        with pytest.raises(ApiProblem, match="invalid_grant"):
            await get_profile(ada.caller)
        ada = Client(transport, Password(new_email, "another password"))
        assert (await get_profile(ada.caller))["email"] == new_email
        token = await ada.login.token()
        await end_logins(ada.caller)
        assert await ada.login.token(rejected=token) != token
