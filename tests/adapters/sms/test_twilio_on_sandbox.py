"""SMS through Twilio's SDK against the sandbox, in all its moods."""

import asyncio

import pytest

from orderplane.adapters.sms import twilio
from orderplane.adapters.sms.twilio import TwilioSms
from orderplane.dev.localplane.ports import free_port
from orderplane.dev.sandbox.sms.wire import MAGIC
from orderplane.ledgers.errors import Refused, Transient, Unclear

LOGIN = "AC0123:token"
SENDER = "+15005550006"
TEXT = "Your order o-1 has arrived. (ref {:012x})"


@pytest.fixture(scope="module")
async def sandbox(start_sandbox):
    return await start_sandbox("sms", ORDERPLANE_SMS_KEY=LOGIN)


@pytest.fixture
async def sms(sandbox):
    async with TwilioSms(LOGIN, SENDER, sandbox.url, timeout_seconds=1.0) as opened:
        yield opened
    await faults(sandbox, "ok")


async def faults(sandbox, mode, **how):
    status, document, _ = await sandbox.call(
        "POST", "/_sandbox/faults", json={"mode": mode, **how}, auth=f"Bearer {LOGIN}"
    )
    assert status == 200, document


async def copies(sms, number):
    return [found async for found in sms.references()].count(f"{number:012x}")


async def test_what_is_sent_is_found_by_its_reference(sms):
    id_ = await sms.send("+4930901820", TEXT.format(1))
    assert id_.startswith("SM")
    assert await sms.find("+4930901820", f"{1:012x}") == id_
    assert await sms.find("+4930901820", f"{2:012x}") is None
    assert await sms.find("+4930901821", f"{1:012x}") is None
    assert await copies(sms, 1) == 1


async def test_all_pages_are_read(sms, monkeypatch):
    monkeypatch.setattr(twilio, "PAGE_SIZE", 3)
    await asyncio.gather(*(sms.send("+4930901822", TEXT.format(100 + number)) for number in range(10)))
    found = [each async for each in sms.references()]
    assert {f"{100 + number:012x}" for number in range(10)} <= set(found)
    assert len(found) == len(set(found))
    assert await sms.find("+4930901822", f"{100:012x}") is not None


@pytest.mark.parametrize("number", [*MAGIC, "not a number"])
async def test_a_number_that_cannot_be_reached_is_refused(sms, number):
    with pytest.raises(Refused, match="SmsRefused") as told:
        await sms.send(number, TEXT.format(3))
    assert number not in str(told.value)


async def test_a_wrong_login_is_nobodys_refusal(sandbox):
    async with TwilioSms("AC0123:wrong", SENDER, sandbox.url) as sms:
        with pytest.raises(Transient, match="SmsUnauthorized"):
            await sms.send("+4930901823", TEXT.format(4))


async def test_nobody_listens():
    async with TwilioSms(LOGIN, SENDER, f"http://127.0.0.1:{free_port()}") as sms:
        with pytest.raises(Transient, match="SmsUnavailable", check=lambda p: not isinstance(p, Unclear)):
            await sms.send("+4930901824", TEXT.format(5))


@pytest.mark.parametrize(
    ("number", "mode", "after_effect", "verdict", "arrived"),
    [
        (10, "refuse429", False, "SmsBusy", 0),
        (11, "error500", False, "SmsUnclear", 0),
        (12, "error500", True, "SmsUnclear", 1),
        (13, "hang", False, "SmsUnclear", 0),
        (14, "hang", True, "SmsUnclear", 1),
    ],
)
async def test_trouble(sandbox, sms, number, mode, after_effect, verdict, arrived):
    await faults(sandbox, mode, after_effect=after_effect)
    with pytest.raises(Transient, match=verdict) as told:
        await sms.send("+4930901825", TEXT.format(number))
    assert isinstance(told.value, Unclear) is (verdict == "SmsUnclear")
    await faults(sandbox, "ok")
    assert await copies(sms, number) == arrived
    assert (await sms.find("+4930901825", f"{number:012x}") is not None) is bool(arrived)


async def test_the_call_is_made_once(sandbox, sms):
    """The SDK and the layers under it would retry; a second call could be a second message."""
    await faults(sandbox, "error500", after_effect=True)
    with pytest.raises(Unclear):
        await sms.send("+4930901826", TEXT.format(20))
    await faults(sandbox, "ok")
    assert await copies(sms, 20) == 1


async def test_it_is_all_there_after_a_kill(sandbox, sms):
    await sms.send("+4930901827", TEXT.format(30))
    await sandbox.kill()
    await sandbox.start()
    assert await copies(sms, 30) == 1
