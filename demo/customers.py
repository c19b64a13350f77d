"""The customers of the demo: they register and log in like anybody."""

import asyncio
from dataclasses import dataclass

import aiohttp

COUNT = 12
_PASSWORD = "a password for the demo only"  # noqa: S105
_BUSY = (429, 503)
_WISHES = (
    {"email": True, "sms": True}, {"email": True, "sms": False}, {"email": False, "sms": True},
    {"email": False, "sms": False},
)  # fmt: skip
"""How they want to be told; they take turns."""


@dataclass(frozen=True, slots=True)
class Customer:
    """One who is logged in."""

    email: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        """What each of their requests carries."""
        return {"Authorization": f"Bearer {self.token}"}


async def arrive(http: aiohttp.ClientSession, count: int = COUNT) -> list[Customer]:
    """Have `count` customers register, and log in. Who has an account already just logs in.

    Raises:
        RuntimeError: the front door does not let one in.
    """
    return list(await asyncio.gather(*(_arrive(http, number) for number in range(1, count + 1))))


async def _arrive(http: aiohttp.ClientSession, number: int) -> Customer:
    email = f"customer-{number}@example.test"
    account = {
        "email": email, "password": _PASSWORD, "name": f"Customer {number}", "phone": f"+31970{number:08d}",
    }  # fmt: skip
    await _ask(http, "POST", "/api/auth/register", json=account)
    form = {"grant_type": "password", "username": email, "password": _PASSWORD}
    tokens = await _ask(http, "POST", "/api/auth/login", data=form)
    customer = Customer(email, tokens["access_token"])
    wishes = {"preferences": _WISHES[number % len(_WISHES)]}
    await _ask(http, "PATCH", "/api/users/me", json=wishes, headers=customer.headers)
    return customer


async def _ask(http: aiohttp.ClientSession, verb: str, path: str, **what: object) -> dict[str, str]:
    while True:
        try:
            async with http.request(verb, path, **what) as answer:  # type: ignore[arg-type]
                document: dict[str, str] = await answer.json(content_type=None)
                if answer.status < 300:
                    return document
                if answer.status not in _BUSY:
                    raise RuntimeError(f"{path}: {answer.status} {document.get('detail')}")
                pause = float(answer.headers.get("Retry-After", "0.5"))
        except (aiohttp.ClientError, TimeoutError):
            pause = 0.5
        await asyncio.sleep(pause)
