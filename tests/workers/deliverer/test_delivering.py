"""Every event reaches every endpoint, whatever receivers do, and whenever a deliverer dies."""

import asyncio
import random
import socket
import statistics
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import pytest
from aiohttp import web

from orderplane.adapters.webhook_endpoints.secrets import EndpointSecrets, new_key
from orderplane.events.standard_webhooks import new_secret
from orderplane.events.types import EventType
from orderplane.ledgers.postgres.session import transaction
from orderplane.ledgers.postgres.webhook_endpoints import add_test, rotate_secret

from .conftest import MERCHANT, Answering, DelivererStage, Receiver, takes

pytestmark = [pytest.mark.integration, pytest.mark.timeout(200)]


def first(times: int, then: Answering) -> Answering:
    """Misbehave for so many requests, then take what comes."""

    async def answer(receiver: Receiver, request: web.Request) -> web.StreamResponse:
        if sum(receiver.asked.values()) <= times:
            return await then(receiver, request)
        return await takes(receiver, request)

    return answer


async def fails(_: Receiver, __: web.Request) -> web.StreamResponse:
    return web.Response(status=500, text="<b>no</b>\0" * 1000)


async def hangs(_: Receiver, __: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3)
    return web.Response(status=503)


async def redirects(_: Receiver, request: web.Request) -> web.StreamResponse:
    return web.Response(status=307, headers={"Location": str(request.url)})


async def closes(_: Receiver, request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response(status=500)


async def takes_too_late(receiver: Receiver, request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(1)
    return await takes(receiver, request)


MISBEHAVIOUR = {
    "HttpError": fails, "TimedOut": hangs, "Redirected": redirects, "Disconnected": closes,
}  # fmt: skip


@pytest.mark.parametrize("reason", MISBEHAVIOUR)
async def test_an_event_is_delivered_once_the_receiver_takes_it(stage: DelivererStage, reason: str) -> None:
    receiver = await stage.receiver(first(2, MISBEHAVIOUR[reason]))
    await stage.start_deliverer()
    (event,) = await stage.happen()
    await stage.taken(receiver, [event])
    await stage.all_in("Delivered", 1)
    assert (receiver.took[event], receiver.asked[event], receiver.forged) == (1, 3, [])
    log = await stage.log(event)
    assert [row["reason"] for row in log] == [reason, reason, None]
    assert [row["status"] for row in log][-1] == 200
    assert log[-1]["answer"] == "ok"
    assert all(len(row["answer"].encode()) <= 4096 and row["url"] == receiver.url for row in log)
    sent = receiver.headers[-1]
    assert sent["Content-Type"] == "application/cloudevents+json"
    assert sent["webhook-id"] == event
    assert len({headers["webhook-id"] for headers in receiver.headers}) == 1, "the same in every attempt"


async def test_one_that_answers_after_the_time_is_over_gets_the_event_again(stage: DelivererStage) -> None:
    receiver = await stage.receiver(first(1, takes_too_late))
    await stage.start_deliverer()
    (event,) = await stage.happen()
    await stage.all_in("Delivered", 1)
    assert receiver.asked[event] == 2
    assert {headers["webhook-id"] for headers in receiver.headers} == {event}, "which it sees by the id"


async def test_one_that_was_away_gets_everything_when_it_is_back(stage: DelivererStage) -> None:
    receiver = Receiver((await stage.receiver()).secret)
    with unused_port() as port:
        await stage.register(receiver, url=f"http://127.0.0.1:{port}/hook")
        await stage.start_deliverer()
        events = await stage.happen(20)

        async def has_been_tried() -> bool:
            return bool(await stage.metric("orderplane_delivery_attempts_total", result="NotConnected") >= 3)

        await stage.until(has_been_tried, "three attempts have failed")
    app = web.Application()
    app.router.add_post("/hook", receiver.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    stage.runners.append(runner)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await stage.taken(receiver, events)
    await stage.all_in("Delivered", 40)
    assert receiver.forged == []
    assert (
        await stage.pool.fetchval("SELECT count(*) FROM webhook_endpoints WHERE failing_since IS NOT NULL")
        == 0
    )


@contextmanager
def unused_port() -> Iterator[int]:
    """A port that is bound and does not listen: connections are refused, and nobody else takes it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


async def test_what_is_never_taken_is_parked_and_can_be_replayed(stage: DelivererStage) -> None:
    receiver = await stage.receiver(fails)
    await stage.start_deliverer(ORDERPLANE_DELIVERY_GOOD_FOR_SECONDS="1")
    (event,) = await stage.happen()
    await stage.all_in("Parked", 1)
    (row,) = await stage.rows()
    assert row["reason"] == "GivenUp"
    assert len(await stage.log(event)) == row["attempt"] > 2
    receiver.answering = takes
    await stage.pool.execute(
        "UPDATE event_deliveries "
        "SET state = 'Waiting', ended_at = NULL, first_tried_at = NULL, due_at = now()"
    )
    await stage.all_in("Delivered", 1)


@pytest.mark.parametrize(("answering", "reason"), [(fails, "Failing"), (lambda *_: gone(), "Gone")])
async def test_an_endpoint_that_takes_nothing_is_disabled_and_its_staff_told_once(
    stage: DelivererStage, answering: Answering, reason: str
) -> None:
    receiver = await stage.receiver(answering)
    for id_, role, confirmed in (
        ("u-1", "merchant", True),
        ("u-2", "admin", True),
        ("u-3", "merchant", False),
        ("u-4", "customer", True),
    ):
        await stage.pool.execute(
            "INSERT INTO users (merchant, id, email, role, password_hash, email_confirmed_at) "
            "VALUES ($1, $2, $2 || '@shop.test', $3, '', CASE WHEN $4 THEN now() END)",
            MERCHANT, id_, role, confirmed,
        )  # fmt: skip
    await stage.start_deliverer(ORDERPLANE_ENDPOINT_PATIENCE_SECONDS="1")
    await stage.happen(5)
    await stage.all_in("Parked", 5)
    endpoint = await stage.pool.fetchrow("SELECT * FROM webhook_endpoints")
    assert (endpoint["disabled_reason"], endpoint["disabled_at"] is not None) == (reason, True)
    messages = await stage.pool.fetch("SELECT * FROM account_messages ORDER BY user_id")
    assert [(row["user_id"], row["address"], row["kind"], row["about"]) for row in messages] == [
        ("u-1", "u-1@shop.test", "EndpointDisabled", endpoint["id"]),
        ("u-2", "u-2@shop.test", "EndpointDisabled", endpoint["id"]),
    ]  # fmt: skip
    before = sum(receiver.asked.values())
    await stage.happen(3)
    await stage.all_in("Parked", 8)
    assert sum(receiver.asked.values()) == before
    # A test goes there all the same.
    receiver.answering = takes
    async with transaction(stage.pool) as connection:
        event = str(await add_test(connection, MERCHANT, endpoint["id"]))
    await stage.taken(receiver, [event])
    assert (await stage.pool.fetchval("SELECT disabled_reason FROM webhook_endpoints")) == reason


async def gone() -> web.StreamResponse:
    return web.Response(status=410)


async def test_what_waits_for_a_deleted_endpoint_is_parked(stage: DelivererStage) -> None:
    await stage.receiver()
    await stage.happen(3)
    await stage.pool.execute("UPDATE webhook_endpoints SET deleted_at = now(), secret = ''")
    await stage.start_deliverer()
    await stage.all_in("Parked", 3)
    assert {row["reason"] for row in await stage.rows()} == {"EndpointDeleted"}


async def test_while_two_secrets_are_valid_requests_are_signed_by_both(stage: DelivererStage) -> None:
    receiver = await stage.receiver()
    (endpoint,) = await stage.pool.fetch("SELECT id FROM webhook_endpoints")
    fresh = new_secret()
    async with transaction(stage.pool) as connection:
        await rotate_secret(
            connection, MERCHANT, endpoint["id"], secret=stage.secrets.encrypt(fresh), overlap_seconds=60
        )
    await stage.start_deliverer()
    (old,) = await stage.happen()
    await stage.taken(receiver, [old])
    receiver.secret = fresh
    (new,) = await stage.happen()
    await stage.taken(receiver, [new])
    assert receiver.forged == []
    assert receiver.headers[-1]["webhook-signature"].count("v1,") == 2
    await stage.pool.execute("UPDATE webhook_endpoints SET previous_secret_until = now()")
    (last,) = await stage.happen()
    await stage.taken(receiver, [last])
    assert receiver.headers[-1]["webhook-signature"].count("v1,") == 1


async def test_a_new_key_encrypts_every_secret_anew(stage: DelivererStage) -> None:
    receiver = await stage.receiver()
    new = new_key()
    await stage.start_deliverer(ORDERPLANE_ENDPOINT_KEYS=f"{new}, {stage.env['ORDERPLANE_ENDPOINT_KEYS']}")
    stored = await stage.pool.fetchval("SELECT secret FROM webhook_endpoints")
    assert EndpointSecrets(new).decrypt(stored) == receiver.secret
    (event,) = await stage.happen()
    await stage.taken(receiver, [event])


async def test_an_endpoint_gets_the_types_that_it_wants(stage: DelivererStage) -> None:
    receiver = await stage.receiver(types=("order.shipped",))
    everything = await stage.receiver()
    await stage.start_deliverer()
    created, shipped = await stage.happen(), await stage.happen(1, EventType.ORDER_SHIPPED)
    await stage.taken(everything, created + shipped)
    await stage.taken(receiver, shipped)
    assert receiver.asked.keys() == {*shipped}


async def test_no_private_address_is_reached_unless_it_is_allowed(stage: DelivererStage) -> None:
    receiver = await stage.receiver()
    await stage.start_deliverer(ORDERPLANE_ENDPOINT_NETWORKS="10.0.0.0/8")
    (event,) = await stage.happen()

    async def has_failed() -> bool:
        return [row["reason"] for row in await stage.log(event)][:1] == ["AddressRefused"]

    await stage.until(has_failed, "the first attempt has failed")
    assert receiver.headers == []


async def test_nothing_is_lost_when_deliverers_are_killed_at_random(stage: DelivererStage) -> None:
    """Two replicas, one of which dies again and again, while receivers fail every third time."""
    rng = random.Random(11)

    async def moody(receiver: Receiver, request: web.Request) -> web.StreamResponse:
        if rng.random() < 1 / 3:
            return await rng.choice([fails, closes, redirects])(receiver, request)
        return await takes(receiver, request)

    receivers = [await stage.receiver(moody) for _ in range(3)]
    for name in ("deliverer", "deliverer-2"):
        await stage.start_deliverer(name)
    events: list[str] = []
    for _ in range(8):
        events += await stage.happen(15)
        await asyncio.sleep(rng.uniform(0.05, 0.5))
        await stage.supervisor.kill(rng.choice(["deliverer", "deliverer-2"]))
    for receiver in receivers:
        await stage.taken(receiver, events, seconds=120)
    await stage.all_in("Delivered", len(events) * 3)
    assert [receiver.forged for receiver in receivers] == [[], [], []]
    assert {event for receiver in receivers for event in receiver.took} == {*events}


async def test_a_dead_endpoint_delays_no_other_one(stage: DelivererStage) -> None:
    """The measured run has 1,000 events a minute to 20 endpoints; here it is a tenth, for a few seconds."""
    dead, (receivers) = await stage.receiver(hangs), [await stage.receiver() for _ in range(5)]
    await stage.start_deliverer()
    events: list[str] = []
    for _ in range(30):
        events += await stage.happen()
        await asyncio.sleep(0.1)
    for receiver in receivers:
        await stage.taken(receiver, events)
    delays = [delay for receiver in receivers for delay in receiver.delays.values()]
    assert statistics.quantiles(delays, n=20)[-1] < 2
    assert not dead.took

    async def is_told() -> bool:
        return bool(await stage.metric("orderplane_webhook_endpoints_failing") == 1)

    await stage.until(is_told, "the metric of failing endpoints is 1")
    assert await stage.metric("orderplane_event_deliveries_oldest_age_seconds") < 2, (
        "what is dead is not late"
    )


async def test_a_deliverer_that_is_stopped_finishes_what_is_in_hand(stage: DelivererStage) -> None:
    async def slowly(receiver: Receiver, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.3)
        return await takes(receiver, request)

    receiver = await stage.receiver(slowly)
    await stage.start_deliverer()
    (event,) = await stage.happen()

    async def has_begun() -> bool:
        return bool(receiver.asked[event])

    await stage.until(has_begun, "the request has begun")
    await stage.supervisor.stop("deliverer")
    await stage.all_in("Delivered", 1)
    assert receiver.took[event] == 1


async def test_probes_and_metrics(stage: DelivererStage) -> None:
    await stage.receiver()
    await stage.start_deliverer()
    (event,) = await stage.happen()
    await stage.all_in("Delivered", 1)
    assert len(await stage.log(event)) == 1
    name = "orderplane_event_deliveries_total"
    assert await stage.metric(name, type="order.created", result="delivered") == 1
    assert await stage.metric("orderplane_delivery_delay_seconds_count") == 1
    async with aiohttp.ClientSession() as http:
        for path in ("readyz", "healthz"):
            async with http.get(f"http://127.0.0.1:{stage.ports['deliverer']}/{path}") as answer:
                assert answer.status == 200
