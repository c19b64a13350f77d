"""Secrets are replaced while they are used: nothing fails, and the new ones are used."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web

from orderplane.adapters.carriers.easypost import EasyPostCarrier
from orderplane.adapters.payments.stripe import StripeProvider
from orderplane.adapters.secrets import Secrets
from orderplane.adapters.settings import SECRETS_DIR, read_settings
from orderplane.adapters.sms.twilio import TwilioSms
from orderplane.operator.settings import OperatorSettings

from ..support.mounted import MountedSecret

DSN = "postgresql://orderplane:{}@127.0.0.1/orderplane"
FILES = {
    "ORDERPLANE_POSTGRES_DSN": DSN.format("first"),
    "ORDERPLANE_PAYMENTS_KEY": "sk_first",
    "ORDERPLANE_CARRIER_KEY": "EZ_first",
}


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MountedSecret:
    mounted = MountedSecret(tmp_path / "secrets", FILES)
    monkeypatch.setenv(SECRETS_DIR, str(mounted.folder))
    for name, value in {
        "ORDERPLANE_PAYMENTS_URL": "http://127.0.0.1:1", "ORDERPLANE_CARRIER_URL": "http://127.0.0.1:1",
        "ORDERPLANE_CARRIER_SENDER": '{"street1": "1 Dock St", "city": "R", "zip": "3011", "country": "NL"}',
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    for name in FILES:
        monkeypatch.delenv(name, raising=False)
    return mounted


@pytest.fixture
def secrets(mounted: MountedSecret) -> Secrets:
    return Secrets(read_settings(OperatorSettings))


async def test_what_has_changed_is_handed_on_once(mounted: MountedSecret, secrets: Secrets) -> None:
    keys: list[str] = []

    async def use(key: str) -> None:
        keys.append(key)

    read = secrets.reader("postgres_dsn")
    secrets.on_change("payments_key", use)
    await secrets.reload()
    assert (keys, read()) == ([], FILES["ORDERPLANE_POSTGRES_DSN"])
    mounted.replace({
        **FILES, "ORDERPLANE_PAYMENTS_KEY": "sk_second\n", "ORDERPLANE_POSTGRES_DSN": DSN.format("second")
    })  # fmt: skip
    await secrets.reload()
    await secrets.reload()
    assert (keys, read()) == (["sk_second"], DSN.format("second"))


async def test_what_cannot_be_used_yet_is_tried_again(mounted: MountedSecret, secrets: Secrets) -> None:
    tried: list[str] = []

    async def use(dsn: str) -> None:
        tried.append(dsn)
        if len(tried) == 1:
            raise OSError(f"no connection to {dsn}")

    read = secrets.reader("postgres_dsn")
    secrets.on_change("postgres_dsn", use)
    mounted.replace({**FILES, "ORDERPLANE_POSTGRES_DSN": DSN.format("second")})
    with structlog.testing.capture_logs() as lines:
        await secrets.reload()
    assert read() == DSN.format("first")
    assert "second" not in str(lines)
    await secrets.reload()
    assert (read(), len(tried)) == (DSN.format("second"), 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ORDERPLANE_POSTGRES_DSN": "mysql://do-not-tell"},
        {"ORDERPLANE_PAYMENTS_KEY": "changeme"},
        {"ORDERPLANE_PAYMENTS_KEY": ""},
    ],
)
async def test_what_would_be_refused_at_the_start_changes_nothing(
    mounted: MountedSecret, secrets: Secrets, wrong: dict[str, str]
) -> None:
    async def use(_: str) -> None:
        raise AssertionError

    for name in ("payments_key", "postgres_dsn"):
        secrets.on_change(name, use)
    mounted.replace({**FILES, **wrong})
    with structlog.testing.capture_logs() as lines:
        await secrets.reload()
    [line] = lines
    assert line["event"] == "the secrets cannot be read; the last ones are used"
    assert next(iter(wrong)) in str(line)
    assert "do-not-tell" not in str(line)


async def test_who_takes_a_secret_at_the_start_only_is_told(mounted: MountedSecret, secrets: Secrets) -> None:
    mounted.replace({**FILES, "ORDERPLANE_CARRIER_KEY": "EZ_second"})
    with structlog.testing.capture_logs() as lines:
        await secrets.reload()
        await secrets.reload()
    [line] = lines
    assert (line["setting"], line["is_used"]) == ("ORDERPLANE_CARRIER_KEY", "after a restart")


INTENT = {
    "id": "pi_1", "object": "payment_intent", "amount": 100, "amount_received": 0, "currency": "eur",
    "status": "requires_confirmation", "last_payment_error": None, "metadata": {},
}  # fmt: skip
SHIPMENT = {
    "id": "shp_1", "object": "Shipment", "reference": "r", "rates": [], "selected_rate": None,
    "postage_label": None, "refund_status": None, "tracker": None, "tracking_code": None,
}  # fmt: skip
MESSAGES = {"messages": [], "page": 0, "page_size": 200, "next_page_uri": None}


class Provider:
    """Answers like one who knows some keys; remembers who asked."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.asked: list[str] = []
        self.refused = 0
        self.is_asked = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.headers["Authorization"])
        self.is_asked.set()
        if self.asked[-1] not in self.known:
            self.refused += 1
            return web.json_response({"error": {"message": "no such key"}}, status=401)
        await asyncio.sleep(0.001)
        found: Any = INTENT if "intents" in request.path else SHIPMENT
        return web.json_response(MESSAGES if "Messages" in request.path else found)


@asynccontextmanager
async def serving(provider: Provider) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", provider.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("which", ["payments", "carrier", "sms"])
async def test_a_key_is_replaced_while_calls_are_under_way(which: str) -> None:
    """Both keys are known for a while, as at a provider where a key is replaced."""
    provider = Provider()
    async with serving(provider) as url:
        opened: Any = {
            "payments": lambda: StripeProvider("first", url),
            "carrier": lambda: EasyPostCarrier("first", url),
            "sms": lambda: TwilioSms("AC1:first", "+1", url),
        }[which]()
        async with opened as client:
            call, use = {
                "payments": lambda: (lambda: client.get_intent("pi_1"), client.use_key),
                "carrier": lambda: (lambda: client.get("shp_1"), client.use_key),
                "sms": lambda: (lambda: client.find("+2", "r"), client.use_login),
            }[which]()

            async def burst() -> None:
                await asyncio.gather(*(call() for _ in range(20)))

            first, second = _header(which, "first"), _header(which, "second")
            provider.known = {first}
            await burst()
            provider.known = {first, second}
            provider.is_asked.clear()
            under_way = asyncio.create_task(burst())
            await provider.is_asked.wait()
            await use("AC1:second" if which == "sms" else "second")
            await asyncio.gather(burst(), under_way)
            provider.known = {second}
            await burst()
    assert provider.refused == 0
    assert set(provider.asked[:20]) == {first}
    assert set(provider.asked[60:]) == {second}
    assert len(provider.asked) == 80


def _header(which: str, key: str) -> str:
    return aiohttp.encode_basic_auth("AC1", key) if which == "sms" else f"Bearer {key}"
