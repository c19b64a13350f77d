"""The payment sandbox without an SDK: keys, replays, pages, refusals, durability."""

import asyncio
import base64
import uuid

import aiohttp
import pytest

INTENT = {"amount": "500", "currency": "eur", "payment_method": "pm_card_visa", "metadata[order]": "o-1"}


async def make(sandbox, key=None, **changes):
    return await sandbox.call("POST", "/v1/payment_intents", form={**INTENT, **changes}, key=key)


async def test_a_key_replays_status_and_body_and_says_so(payments):
    key = str(uuid.uuid4())
    status, first, headers = await make(payments, key)
    assert status == 200
    assert "Idempotent-Replayed" not in headers
    assert headers["Request-Id"].startswith("req_")
    again = await make(payments, key)
    assert again[:2] == (200, first)
    assert again[2]["Idempotent-Replayed"] == "true"


async def test_a_stored_decline_and_a_stored_500_are_replayed(payments):
    _, declined, _ = await make(payments, payment_method="pm_card_chargeDeclined")
    _, broken, _ = await make(payments, payment_method="pm_sandbox_errorOnceAfterCharge")
    for intent, status in ((declined, 402), (broken, 500)):
        key = str(uuid.uuid4())
        path = f"/v1/payment_intents/{intent['id']}/confirm"
        first = await payments.call("POST", path, form={}, key=key)
        again = await payments.call("POST", path, form={}, key=key)
        assert first[0] == again[0] == status
        assert first[1] == again[1]
        assert again[2]["Idempotent-Replayed"] == "true"


async def test_other_parameters_and_other_paths_are_errors(payments):
    key = str(uuid.uuid4())
    _, intent, _ = await make(payments, key)
    status, document, _ = await make(payments, key, amount="501")
    assert (status, document["error"]["type"]) == (400, "idempotency_error")
    path = f"/v1/payment_intents/{intent['id']}/confirm"
    status, document, _ = await payments.call("POST", path, form={}, key=key)
    assert (status, document["error"]["type"]) == (400, "idempotency_error")


async def test_wrong_parameters_do_not_use_a_key_up(payments):
    key = str(uuid.uuid4())
    status, document, _ = await make(payments, key, amount="nothing")
    assert (status, document["error"]["param"]) == (400, "amount")
    status, _, _ = await make(payments, key)
    assert status == 200


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"amount": "0"}, "amount"),
        ({"amount": ""}, "amount"),
        ({"currency": "euros"}, "currency"),
        ({"payment_method": ""}, "payment_method"),
        ({"payment_method": "pm_nobody"}, "payment_method"),
    ],
)
async def test_wrong_parameters_are_named(payments, changes, param):
    status, document, _ = await make(payments, **changes)
    assert (status, document["error"]["param"]) == (400, param)


async def test_a_key_is_forgotten_after_its_time(start_sandbox):
    sandbox = await start_sandbox("payments", ORDERPLANE_SANDBOX_KEY_TTL_SECONDS="0")
    key = str(uuid.uuid4())
    _, first, _ = await make(sandbox, key)
    _, second, _ = await make(sandbox, key)
    assert first["id"] != second["id"]


@pytest.mark.parametrize("path", ["/v1/payment_intents/pi_none", "/v1/refunds/re_none"])
async def test_what_is_not_there_is_a_404(payments, path):
    status, document, _ = await payments.call("GET", path)
    assert (status, document["error"]["code"]) == (404, "resource_missing")


async def test_pages_are_newest_first(payments):
    made = [(await make(payments))[1]["id"] for _ in range(3)]
    _, page, _ = await payments.call("GET", "/v1/payment_intents?limit=2")
    assert [one["id"] for one in page["data"]] == [made[2], made[1]]
    assert page["has_more"] is True
    _, rest, _ = await payments.call("GET", f"/v1/payment_intents?limit=1&starting_after={made[1]}")
    assert rest["data"][0]["id"] == made[0]
    status, _, _ = await payments.call("GET", "/v1/payment_intents?starting_after=pi_none")
    assert status == 400


@pytest.mark.parametrize("auth", ["", "Bearer wrong", "Basic d3Jvbmc6"])
async def test_a_wrong_key_is_a_401_on_every_surface(payments, auth):
    for verb, path in (("GET", "/v1/payment_intents"), ("GET", "/_sandbox/faults")):
        status, _, _ = await payments.call(verb, path, auth=auth)
        assert status == 401


async def test_basic_authentication_works_too(payments, key):
    auth = "Basic " + base64.b64encode(f"{key}:".encode()).decode()
    status, _, _ = await payments.call("GET", "/v1/payment_intents", auth=auth)
    assert status == 200


async def test_what_was_answered_survives_sigkill(start_sandbox, eventually):
    sandbox = await start_sandbox("payments")
    key = str(uuid.uuid4())
    _, intent, _ = await make(sandbox, key)
    path = f"/v1/payment_intents/{intent['id']}"
    _, charged, _ = await sandbox.call("POST", f"{path}/confirm", form={}, key=f"{key}/1")
    _, refund, _ = await sandbox.call("POST", "/v1/refunds", form={"payment_intent": intent["id"]})
    await sandbox.kill()
    await sandbox.start()
    assert (await sandbox.call("GET", path))[1] == charged
    assert (await sandbox.call("GET", f"/v1/refunds/{refund['id']}"))[1] == refund
    replay = await sandbox.call("POST", f"{path}/confirm", form={}, key=f"{key}/1")
    assert replay[1] == charged
    assert replay[2]["Idempotent-Replayed"] == "true"
    status, document, _ = await sandbox.call("POST", "/v1/refunds", form={"payment_intent": intent["id"]})
    assert (status, document["error"]["code"]) == (400, "charge_already_refunded")


async def test_no_answer_is_lost_when_it_is_killed_under_load(start_sandbox):
    sandbox = await start_sandbox("payments")
    answered: list[str] = []
    enough = asyncio.Event()

    async def load() -> None:
        while True:
            try:
                answered.append((await make(sandbox))[1]["id"])
                if len(answered) == 100:
                    enough.set()
            except aiohttp.ClientError:
                return

    loads = [asyncio.create_task(load()) for _ in range(8)]
    await enough.wait()
    await sandbox.kill()
    await asyncio.gather(*loads)
    await sandbox.start()
    for id_ in answered:
        status, _, _ = await sandbox.call("GET", f"/v1/payment_intents/{id_}")
        assert status == 200


async def test_sigterm_is_prompt_and_lets_a_slow_charge_end(start_sandbox, eventually):
    sandbox = await start_sandbox("payments", ORDERPLANE_SANDBOX_SLOW_SECONDS="0.5")
    _, slow, _ = await make(sandbox, payment_method="pm_sandbox_slowCharge")
    _, silent, _ = await make(sandbox, payment_method="pm_sandbox_timeoutAfterCharge")
    confirm = "/v1/payment_intents/{}/confirm"
    charge = asyncio.create_task(sandbox.call("POST", confirm.format(slow["id"]), form={}))
    hung = asyncio.create_task(sandbox.call("POST", confirm.format(silent["id"]), form={}))
    await eventually(
        lambda: sandbox.call("GET", f"/v1/payment_intents/{silent['id']}"),
        lambda answer: answer[1]["status"] == "succeeded",
    )
    assert await sandbox.stop() == 0
    assert (await charge)[1]["status"] == "succeeded"
    with pytest.raises(aiohttp.ClientError):
        await hung
    await sandbox.start()
    _, found, _ = await sandbox.call("GET", f"/v1/payment_intents/{slow['id']}")
    assert found["status"] == "succeeded"


async def test_an_accepted_request_is_carried_out_though_its_client_went(payments, key, eventually):
    _, intent, _ = await make(payments, payment_method="pm_sandbox_slowCharge")
    _, writer = await asyncio.open_connection("127.0.0.1", payments.port)
    used = str(uuid.uuid4())
    writer.write(
        f"POST /v1/payment_intents/{intent['id']}/confirm HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
        f"Authorization: Bearer {key}\r\nIdempotency-Key: {used}\r\n\r\n".encode()
    )
    # Another request under the key is told that it is in use once the first has been accepted.
    await eventually(
        lambda: make(payments, used, amount="wrong"),
        lambda answer: answer[1]["error"]["type"] == "idempotency_error",
    )
    writer.close()
    await writer.wait_closed()

    async def status() -> str:
        found: str = (await payments.call("GET", f"/v1/payment_intents/{intent['id']}"))[1]["status"]
        return found

    await eventually(status, lambda found: found == "succeeded")
