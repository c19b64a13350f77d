"""One key, one order: replays, races, crashes and deletions, with everything behind the gateway real."""

import asyncio
import json
import signal

import httpx
import pytest

from orderplane.crds.meta import Kind
from orderplane.gateway.idempotency import order_name
from orderplane.ledgers.postgres.retention import RULES, PostgresRetention

from ..conftest import MERCHANT, SELLER, Behind, Gateway, new_key, order_of, running_gateway, until

pytestmark = pytest.mark.integration


async def answered(gateway: Gateway, key: str) -> httpx.Response:
    """Repeat as a good client does, until there is an answer."""
    async with asyncio.timeout(20):
        while True:
            response = await gateway.post(key=key)
            if response.status_code not in (409, 503):
                return response
            await asyncio.sleep(float(response.headers["Retry-After"]) / 10)


async def test_a_replay_is_the_same_byte_for_byte(gateway: Gateway, behind: Behind) -> None:
    key = new_key()
    first = await gateway.post(key=key)
    name = first.json()["id"]
    await behind.report(name, phase="Paid")
    await behind.pool.execute(
        "UPDATE products SET unit_amount = unit_amount + 1 WHERE merchant = $1", MERCHANT
    )
    try:
        spaced = json.dumps(dict(reversed(order_of().items())), indent=3).encode()
        for body in (order_of(), spaced):
            again = await gateway.post(body, f'"{key}"')
            assert again.status_code == first.status_code == 202
            assert again.content == first.content
            assert again.headers["Location"] == first.headers["Location"]
            assert again.headers["Idempotent-Replayed"] == "true"
    finally:
        await behind.pool.execute(
            "UPDATE products SET unit_amount = unit_amount - 1 WHERE merchant = $1", MERCHANT
        )


async def test_the_same_key_with_another_body_is_refused(gateway: Gateway, behind: Behind) -> None:
    key = new_key()
    name = (await gateway.post(key=key)).json()["id"]
    other = await gateway.post(order_of(customer="c-2"), key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert (await behind.admin.get(Kind.ORDER, MERCHANT, name))["spec"]["customer"] == "c-1001"


async def test_twenty_at_once_make_one_order(gateway: Gateway, behind: Behind) -> None:
    before = set(await behind.orders())
    for _ in range(5):
        key = new_key()
        responses = await asyncio.gather(*(gateway.post(key=key) for _ in range(20)))
        accepted = [response for response in responses if response.status_code == 202]
        waiting = [response for response in responses if response.status_code == 409]
        assert len(accepted) + len(waiting) == 20
        assert len({response.content for response in accepted}) == 1
        assert sum("Idempotent-Replayed" not in response.headers for response in accepted) == 1
        for response in waiting:
            assert response.json()["code"] == "request_in_progress"
            assert int(response.headers["Retry-After"]) >= 1
        new = set(await behind.orders()) - before
        assert new == {order_name(MERCHANT, SELLER, key)}
        before |= new


async def test_a_claim_that_is_held_makes_others_wait(gateway: Gateway, behind: Behind) -> None:
    key = new_key()
    name = (await gateway.post(key=key)).json()["id"]
    await behind.unanswered(name)
    await behind.hold_claim(name)
    busy = await gateway.post(key=key)
    assert (busy.status_code, busy.json()["code"]) == (409, "request_in_progress")
    other = await gateway.post(order_of(customer="c-2"), key)
    assert other.json()["code"] == "idempotency_key_reused"


async def test_an_order_whose_answer_was_lost_is_answered_the_same(gateway: Gateway, behind: Behind) -> None:
    key = new_key()
    first = await gateway.post(key=key)
    name = first.json()["id"]
    await behind.unanswered(name)
    await behind.report(name, phase="Reserved")
    await behind.end_claim(name)
    again = await gateway.post(key=key)
    assert (again.status_code, again.content) == (202, first.content)
    assert (await gateway.post(key=key)).headers["Idempotent-Replayed"] == "true"


async def test_a_row_whose_order_never_came_to_be_is_finished(
    gateway: Gateway, cut_off_gateway: Gateway, behind: Behind
) -> None:
    key = new_key()
    name = order_name(MERCHANT, SELLER, key)
    failed = await cut_off_gateway.post(key=key)
    assert (failed.status_code, failed.json()["code"]) == (503, "unavailable")
    assert int(failed.headers["Retry-After"]) >= 1
    assert name not in await behind.orders()
    # The stored price holds, whatever the catalogue says by now.
    await behind.pool.execute(
        "UPDATE products SET unit_amount = unit_amount * 2 WHERE merchant = $1", MERCHANT
    )
    try:
        finished = await answered(gateway, key)
    finally:
        await behind.pool.execute(
            "UPDATE products SET unit_amount = unit_amount / 2 WHERE merchant = $1", MERCHANT
        )
    assert finished.status_code == 202
    assert finished.json()["quote"]["amounts"]["total"] == 4486
    assert (await behind.orders())[name]["metadata"]["uid"] == finished.json()["uid"]


async def test_reads_without_an_api_server_say_so(cut_off_gateway: Gateway) -> None:
    for path in ("/api/orders/o-1", "/api/orders"):
        response = await cut_off_gateway.http.get(path)
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert response.headers["Retry-After"]


async def test_without_the_database_it_says_so_and_recovers(gateway: Gateway, behind: Behind) -> None:
    key = new_key()
    await behind.plane.supervisor.stop("postgres")
    try:
        for response in (await gateway.post(key=key), await gateway.http.get("/api/products")):
            assert (response.status_code, response.json()["code"]) == (503, "unavailable")
            assert response.headers["Retry-After"]
    finally:
        await behind.plane.supervisor.start("postgres")
    assert (await answered(gateway, key)).status_code == 202


@pytest.mark.parametrize("is_answered", [True, False])
async def test_a_key_never_makes_a_second_order_after_the_first_was_deleted(
    gateway: Gateway, behind: Behind, is_answered: bool
) -> None:
    key = new_key()
    first = await gateway.post(key=key)
    name = first.json()["id"]
    if not is_answered:
        await behind.unanswered(name)
        await behind.end_claim(name)
    await behind.remove(name)
    assert name not in await behind.orders()
    again = await gateway.post(key=key)
    assert (again.status_code, again.content) == (202, first.content)
    assert name not in await behind.orders()

    async def is_gone() -> bool:
        return (await gateway.http.get(f"/api/orders/{name}")).status_code == 404

    await until(is_gone)


async def test_keys_are_kept_for_thirty_days_and_a_day_beyond_the_end(
    gateway: Gateway, behind: Behind
) -> None:
    ages = {"young": 29, "old": 31, "running": 31, "just ended": 31}
    names = {}
    for case, days in ages.items():
        names[case] = (await gateway.post()).json()["id"]
        await behind.pool.execute(
            "UPDATE idempotency SET created_at = now() - make_interval(days => $2) WHERE name = $1",
            names[case], days,
        )  # fmt: skip
    for case, hours in (("old", 25), ("just ended", 1)):
        order = await behind.open_gate(names[case])
        await behind.pool.execute(
            "UPDATE orders SET state = 'Sealed', outcome = 'Delivered', "
            "sealed_at = now() - make_interval(hours => $2) WHERE uid = $1",
            order.metadata.uid, hours,
        )  # fmt: skip
    await behind.open_gate(names["running"])
    erasing, purging = (rule for rule in RULES if rule.table == "idempotency")
    retention = PostgresRetention(behind.pool)
    await retention.purge(erasing, 1000)
    assert await retention.purge(purging, 1000) == 1
    left = await behind.pool.fetch("SELECT name FROM idempotency")
    assert {names[case] for case in ages} - {row["name"] for row in left} == {names["old"]}


async def test_a_stop_lets_running_requests_end(behind: Behind) -> None:
    async with running_gateway(behind.plane) as gateway:
        key = new_key()
        posts = [asyncio.create_task(gateway.post(key=new_key())) for _ in range(20)]
        await gateway.post(key=key)
        gateway.process.send_signal(signal.SIGTERM)
        results = await asyncio.gather(*posts, return_exceptions=True)
        assert await asyncio.wait_for(gateway.process.wait(), 20) == 0
    orders = await behind.orders()
    for result in results:
        # Either it was never taken in, or it was answered and there is its order.
        if isinstance(result, httpx.Response):
            assert result.status_code == 202
            assert result.json()["id"] in orders
        else:
            assert isinstance(result, httpx.TransportError)
