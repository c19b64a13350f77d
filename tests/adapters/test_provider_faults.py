"""What the adapters do when a provider fails: faults, closed ports, broken answers, the circuit breaker."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY

from orderplane.adapters import providers
from orderplane.adapters.carriers.easypost import EasyPostCarrier
from orderplane.adapters.payments.stripe import StripeProvider
from orderplane.controllers.payment.ports import IntentState
from orderplane.crds.order import Address
from orderplane.crds.shipment import Parcel, Service
from orderplane.dev.localplane.ports import free_port
from orderplane.ledgers.errors import Refused, Transient, Unclear

pytestmark = pytest.mark.usefixtures("calm")


async def created(provider):
    order = str(uuid.uuid4())
    return await provider.create_intent(
        key=order, amount=100, currency="EUR", method="pm_card_visa", merchant="shop", reference=order
    )


def breaker_state(provider="payments"):
    return REGISTRY.get_sample_value("orderplane_breaker_state", {"provider": provider})


def calls(result, operation, provider="payments"):
    labels = {"provider": provider, "operation": operation, "result": result}
    return REGISTRY.get_sample_value("orderplane_provider_requests_total", labels) or 0.0


@asynccontextmanager
async def server(answer: bytes) -> AsyncIterator[str]:
    """Reads a request, writes these bytes, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


def is_unclear(problem):
    return isinstance(problem, Unclear)


def is_not_carried_out(problem):
    return isinstance(problem, Transient) and not isinstance(problem, Unclear)


async def test_a_closed_port_means_not_carried_out(key):
    url = f"http://127.0.0.1:{free_port()}"
    async with StripeProvider(key, url) as provider:
        with pytest.raises(Transient, check=is_not_carried_out):
            await created(provider)
    async with EasyPostCarrier(key, url) as carrier:
        with pytest.raises(Transient, check=is_not_carried_out):
            await carrier.void("shp_1")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"id": ',
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nnull",
    ],
    ids=["dropped", "cut off", "not JSON", "a proxy's 502", "broken 500"],
)
async def test_an_answer_that_breaks_off_is_unclear(key, answer):
    async with server(answer) as url:
        async with StripeProvider(key, url) as provider:
            with pytest.raises(Transient, check=is_unclear):
                await created(provider)
        async with EasyPostCarrier(key, url) as carrier:
            with pytest.raises(Transient, check=is_unclear):
                await carrier.buy("shp_1", "rate_1")


async def test_a_wrong_key_is_ours_to_mend_and_fails_no_order(payments, carrier_sandbox):
    async with StripeProvider("sk_test_wrong", payments.url) as provider:
        with pytest.raises(Transient, check=is_not_carried_out):
            await created(provider)
    async with EasyPostCarrier("wrong", carrier_sandbox.url) as carrier:
        with pytest.raises(Transient, check=is_not_carried_out):
            await carrier.void("shp_1")


async def test_429_means_not_carried_out(payments, provider, carrier_sandbox, carrier):
    for sandbox in (payments, carrier_sandbox):
        await sandbox.faults("refuse429", seconds=60)
    with pytest.raises(Transient, check=is_not_carried_out):
        await created(provider)
    with pytest.raises(Transient, check=is_not_carried_out):
        await carrier.void("shp_1")


async def test_reads_are_repeated_and_writes_are_not(payments, provider):
    intent = await created(provider)
    sent = calls("unclear", "get_intent")
    # With this seed the first two requests fail, and the third does not.
    await payments.faults("error500", seconds=60, share=0.9, seed=_seed_of_two_failures(0.9))
    assert (await provider.get_intent(intent.id)).state is IntentState.UNCONFIRMED
    assert calls("unclear", "get_intent") == sent + 2
    await payments.faults("error500", seconds=60)
    sent = calls("unclear", "confirm")
    with pytest.raises(Unclear):
        await provider.confirm(intent.id, key=str(uuid.uuid4()))
    assert calls("unclear", "confirm") == sent + 1


def _seed_of_two_failures(share):
    def fits(seed: int) -> bool:
        rng = random.Random(seed)
        return [rng.random() < share for _ in range(3)] == [True, True, False]

    return next(seed for seed in range(10_000) if fits(seed))


async def test_a_500_that_a_fault_made_is_kept_under_its_key(payments, provider):
    intent = await created(provider)
    key = str(uuid.uuid4())
    await payments.faults("error500", seconds=60, after_effect=True)
    with pytest.raises(Unclear):
        await provider.confirm(intent.id, key=key)
    await payments.faults("ok")
    with pytest.raises(Unclear):
        await provider.confirm(intent.id, key=key)
    assert (await provider.get_intent(intent.id)).state is IntentState.CAPTURED


@pytest.mark.parametrize(("after_effect", "state"), [(True, "CAPTURED"), (False, "UNCONFIRMED")])
async def test_a_hang_is_unclear_before_and_after_the_effect(
    payments, provider, hasty_provider, after_effect, state
):
    intent = await created(provider)
    await payments.faults("hang", seconds=60, after_effect=after_effect)
    with pytest.raises(Unclear):
        await hasty_provider.confirm(intent.id, key=str(uuid.uuid4()))
    await payments.faults("ok")
    assert (await provider.get_intent(intent.id)).state is IntentState[state]


async def test_the_breaker_opens_tries_once_and_closes(payments, key, eventually):
    async with StripeProvider(
        key, payments.url, failure_threshold=4, recovery_seconds=0.3, timeout_seconds=2.0
    ) as provider:
        intent = await created(provider)
        assert breaker_state() == 0
        await payments.faults("error500", seconds=60)
        for _ in range(4):
            with pytest.raises(Unclear):
                await provider.confirm(intent.id, key=str(uuid.uuid4()))
        assert breaker_state() == 2
        left_alone = calls("breaker_open", "confirm")
        with pytest.raises(Transient, check=is_not_carried_out):
            await provider.confirm(intent.id, key=str(uuid.uuid4()))
        assert calls("breaker_open", "confirm") == left_alone + 1

        # Half-open: of several calls at once, one tries it, and meanwhile says so.
        await payments.faults("hang", seconds=60)
        await asyncio.sleep(0.35)
        tries = [asyncio.create_task(provider.confirm(intent.id, key=str(uuid.uuid4()))) for _ in range(5)]
        await eventually(lambda: _now(sum(task.done() for task in tries)), lambda done: done == 4)
        assert breaker_state() == 1
        ended = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(one, Unclear) for one in ended) == 1
        assert breaker_state() == 2

        await payments.faults("ok")

        async def try_again() -> bool:
            try:
                return (await provider.get_intent(intent.id)).state is IntentState.UNCONFIRMED
            except Transient:
                return False

        await eventually(try_again, lambda is_back: is_back)
        assert breaker_state() == 0


async def test_refusals_and_declines_never_open_the_breaker(payments, key):
    async with StripeProvider(key, payments.url, failure_threshold=2) as provider:
        for _ in range(6):
            with pytest.raises(Refused):
                await provider.refund(
                    "pi_none", key=str(uuid.uuid4()), amount=1, currency="EUR", reference="r"
                )
        assert breaker_state() == 0
        assert (await created(provider)).state is IntentState.UNCONFIRMED


async def test_a_cancelled_call_is_counted_as_such(payments, hasty_provider, provider):
    intent = await created(provider)
    await payments.faults("hang", seconds=60)
    ok, gone = calls("ok", "cancel_intent"), calls("cancelled", "cancel_intent")
    task = asyncio.create_task(hasty_provider.cancel_intent(intent.id))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(task, 0.3)
    assert calls("ok", "cancel_intent") == ok
    assert calls("cancelled", "cancel_intent") == gone + 1


async def test_reads_of_a_hanging_provider_end_soon(payments, key):
    async with StripeProvider(key, payments.url, timeout_seconds=6.0) as provider:
        intent = await created(provider)
        await payments.faults("hang", seconds=60)
        async with asyncio.timeout(10):
            with pytest.raises(Unclear):
                await provider.get_intent(intent.id)


async def test_spans_carry_ids_and_verdicts_and_nothing_personal(carrier, monkeypatch):
    spans = InMemorySpanExporter()
    traces = TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(providers, "tracer", traces.get_tracer("test"))
    address = Address(name="Ada Planted", line1="Nowhere 7", city="Delft", postal_code="2611", country="NL")
    parcel = Parcel(weight_grams=1, length_millimetres=1, width_millimetres=1, height_millimetres=1)
    with pytest.raises(Refused):
        await carrier.create(
            reference="order-7", merchant="shop", address=address, parcels=[parcel], service=Service.STANDARD
        )
    (span,) = spans.get_finished_spans()
    assert span.attributes["order"] == "order-7"
    assert span.attributes["orderplane.refused"] == "AddressRejected"
    assert not [word for word in ("Planted", "Nowhere", "Delft", "2611") if word in span.to_json()]


async def _now(value):
    return value
