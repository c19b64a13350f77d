"""Login and order commands, as users and services run them, on a complete plane."""

import json
import secrets
import stat
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from orderplane.dev.demo.products import seed
from orderplane.gateway.identity.grants import new_secret
from orderplane.gateway.identity.user_store import UserStore, new_client_id, new_user_id

from ..support.plane import ORDER, PASSWORD, Merchant
from .terminal import Answer, orderplane

pytestmark = pytest.mark.integration


class Shell:
    """A person's shell."""

    def __init__(self, home: Path, url: str, env: Mapping[str, str]) -> None:
        self.url = url
        self.file = home / "orderplane" / "login.json"
        self._env = {"XDG_CONFIG_HOME": str(home), "ORDERPLANE_GATEWAY": url, **env}

    async def run(self, *words: str, typed: str = "", **env: str) -> Answer:
        return await orderplane(*words, typed=typed, env={**self._env, **env})

    async def json(self, *words: str, typed: str = "") -> Any:
        answer = await self.run(*words, "--json", typed=typed)
        assert answer.code == 0, answer.err
        return json.loads(answer.out)


@pytest.fixture
async def email(merchant: Merchant) -> str:
    """The address of a new account at the demo merchant."""
    await seed(merchant.pool)
    email = f"{secrets.token_hex(6)}@example.test"
    await UserStore(merchant.pool).add(
        "demo", new_user_id(), email=email, password_hash=PasswordHasher().hash(PASSWORD), role="customer",
        is_confirmed=True,
    )  # fmt: skip
    return email


@pytest.fixture
def shell(merchant: Merchant, tmp_path: Path) -> Shell:
    """A shell without a login."""
    return Shell(tmp_path, merchant.plane.url("gateway"), {})


@pytest.fixture
async def ada(shell: Shell, email: str) -> Shell:
    """A customer of the demo shop who is logged in."""
    answer = await shell.run("login", email, typed=PASSWORD)
    assert answer.code == 0, answer.err
    assert answer.out.startswith(f"Logged in at {shell.url} as customer u-")
    assert PASSWORD not in answer.out + answer.err
    return shell


async def test_a_wrong_password_lets_nobody_in(shell: Shell, email: str) -> None:
    wrong = await shell.run("login", email, typed="a wrong password")
    assert (wrong.code, wrong.out) == (3, "")
    assert not shell.file.exists()


async def test_an_order_from_its_file_to_its_door(ada: Shell, tmp_path: Path) -> None:
    assert stat.S_IMODE(ada.file.stat().st_mode) == 0o600
    file = tmp_path / "order.json"
    file.write_text(json.dumps(ORDER))
    created = await ada.run("orders", "create", str(file), "--key", "first")
    assert created.code == 0, created.err
    order_id = created.out.split()[0]
    # (890 + 490) * 1.19
    assert created.out == f"{order_id} is placed: 16.42 EUR.\n"
    again = await ada.json("orders", "create", "-", "--key", "first", typed=file.read_text())
    assert again["id"] == order_id

    watched = await ada.run("orders", "watch", order_id)
    assert watched.code == 0, watched.err
    assert watched.out.splitlines()[-1] == "Delivered"
    assert "\x1b[" not in watched.out

    shown = await ada.run("orders", "get", order_id)
    assert "16.42 EUR" in shown.out
    assert (await ada.json("orders", "get", order_id))["phase"] == "Delivered"
    page = await ada.json("orders", "list", "--phase", "Delivered")
    assert [order["id"] for order in page["items"]] == [order_id]
    assert order_id in (await ada.run("orders", "list")).out
    sku, now = ORDER["items"][0]["sku"], datetime.now().astimezone()
    for found, *filters in (
        ([order_id], "--sku", sku, "--created-after", "2026-01-01"),
        ([order_id], "--created-before", (now + timedelta(hours=1)).isoformat(timespec="seconds")),
        ([], "--sku", "MUG-STONEWARE-BLUE"),
        ([], "--created-before", "2026-01-01T00:00:00Z"),
        ([], "--created-after", (now + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S")),
    ):
        page = await ada.json("orders", "list", *filters)
        assert [order["id"] for order in page["items"]] == found, filters

    past = await ada.json("orders", "timeline", order_id)
    assert [phase["phase"] for phase in past["phases"]] == [
        "Pending", "Reserved", "Paid", "Shipped", "Delivered",
    ]  # fmt: skip
    timeline = (await ada.run("orders", "timeline", order_id)).out
    assert [timeline.index(what) for what in ("order.created", "Paid", "order.delivered")] == sorted(
        timeline.index(what) for what in ("order.created", "Paid", "order.delivered")
    )
    assert f"trackingCode: {past['references']['trackingCode']}" in timeline

    late = await ada.run("orders", "cancel", order_id)
    assert late.code == 1
    assert "too_late_to_cancel" in late.err


async def test_an_order_that_is_cancelled(ada: Shell) -> None:
    # The carrier is slow to answer there, so that there is time to change one's mind.
    slow = ORDER | {"address": ORDER["address"] | {"line1": "7 Fog Street"}}
    order_id = (await ada.json("orders", "create", "-", typed=json.dumps(slow)))["id"]
    cancelled = await ada.run("orders", "cancel", order_id)
    assert cancelled.code == 0, cancelled.err
    assert f"orderplane orders watch {order_id}" in cancelled.out
    watched = await ada.run("orders", "watch", order_id, "--json")
    last = json.loads(watched.out.splitlines()[-1])
    assert (watched.code, last["phase"]) == (1, "Cancelled")
    assert (await ada.run("orders", "cancel", order_id)).out == f"{order_id} is cancelled.\n"
    timeline = (await ada.run("orders", "timeline", order_id)).out
    assert "Compensating" in timeline
    assert "CancelRequested" in timeline
    assert " by " in timeline


async def test_refusals_have_their_codes(ada: Shell) -> None:
    wrong = await ada.run("orders", "create", "-", typed=json.dumps(ORDER | {"items": []}))
    assert wrong.code == 1
    assert "#/items" in wrong.err
    assert (await ada.run("orders", "get", "o-none")).code == 4
    assert (await ada.run("orders", "watch", "o-none")).code == 4
    assert (await ada.run("orders", "timeline", "o-none")).code == 4
    assert (await ada.run("orders", "list", "--created-after", "yesterday")).code == 2
    nobody_there = await ada.run("orders", "list", ORDERPLANE_GATEWAY="http://127.0.0.1:9")
    assert nobody_there.code == 3, "its tokens are of another gateway"
    order_id = (await ada.json("orders", "create", "-", typed=json.dumps(ORDER)))["id"]
    assert (await ada.run("orders", "watch", order_id, "--seconds", "0")).code == 5


async def test_logging_out_ends_it(ada: Shell) -> None:
    refresh = json.loads(ada.file.read_text())["tokens"]["refresh"]
    assert (await ada.run("logout")).out == "Logged out.\n"
    assert not ada.file.exists()
    answer = await ada.run("orders", "list")
    assert answer.code == 3
    assert "orderplane login" in answer.err
    kept = {"url": ada.url, "tokens": {"access": "x", "expires_at": 0.0, "refresh": refresh}}
    ada.file.write_text(json.dumps(kept))
    gone = await ada.run("orders", "list")
    assert gone.code == 3
    assert "invalid_grant" in gone.err


async def test_an_old_login_goes_on_by_itself(ada: Shell) -> None:
    kept = json.loads(ada.file.read_text())
    kept["tokens"]["expires_at"] = 0.0
    ada.file.write_text(json.dumps(kept))
    assert (await ada.run("orders", "list")).code == 0
    renewed = json.loads(ada.file.read_text())["tokens"]
    assert renewed["refresh"] != kept["tokens"]["refresh"]
    assert renewed["expires_at"] > 0


async def test_a_service_needs_no_login(merchant: Merchant, tmp_path: Path) -> None:
    client_id, (secret, secret_hash) = new_client_id(), new_secret()
    await UserStore(merchant.pool).add_client(
        merchant.name, client_id, name="warehouse", secret_hash=secret_hash
    )
    url = merchant.plane.url("gateway")
    shell = Shell(tmp_path, url, {"ORDERPLANE_MERCHANT": merchant.name, "ORDERPLANE_CLIENT_ID": client_id})
    page = await shell.run("orders", "list", "--json", ORDERPLANE_CLIENT_SECRET=secret)
    assert json.loads(page.out) == {"items": [], "next": None}
    assert not shell.file.exists()
    logged_in = await shell.run("login", typed=secret)
    assert logged_in.out == f"Logged in at {url} as {client_id}.\n", logged_in.err
    assert json.loads((await shell.run("orders", "list", "--json")).out)["items"] == []
    wrong = await shell.run("orders", "list", ORDERPLANE_CLIENT_SECRET="wrong")
    assert wrong.code == 3
    assert "wrong" not in wrong.err.replace("is wrong", "")
