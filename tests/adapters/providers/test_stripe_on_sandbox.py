"""The payment gateway through the official SDK, against the payment sandbox: every magic method."""

import asyncio
import uuid

import pytest

from orderplane.controllers.payment.ports import IntentState
from orderplane.ledgers.errors import Refused, Transient, Unclear
from orderplane.ledgers.payments import ProviderRefundState


async def created(gateway, method="pm_card_visa", *, amount=1999, order=None, key=None):
    order = order or str(uuid.uuid4())
    return await gateway.create_intent(
        key=key or f"{order}/create/1",
        amount=amount,
        currency="EUR",
        method=method,
        merchant="shop",
        reference=order,
    )


def fresh():
    return f"{uuid.uuid4()}/confirm/1"


async def test_a_charge_is_two_calls(gateway):
    order = str(uuid.uuid4())
    intent = await created(gateway, order=order)
    assert (intent.state, intent.received) == (IntentState.UNCONFIRMED, 0)
    charged = await gateway.confirm(intent.id, key=fresh())
    assert charged.state is IntentState.CAPTURED
    assert (charged.amount, charged.received, charged.currency) == (1999, 1999, "EUR")
    assert charged.reference == order
    assert await gateway.get_intent(intent.id) == charged


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("pm_card_chargeDeclined", "CardDeclined"),
        ("pm_card_insufficientFunds", "InsufficientFunds"),
        ("pm_card_expired", "ExpiredCard"),
        ("pm_card_authenticationRequired", "AuthenticationRequired"),
    ],
)
async def test_a_refusal_is_an_answer_and_can_be_cancelled(gateway, method, reason):
    intent = await created(gateway, method)
    key = fresh()
    refused = await gateway.confirm(intent.id, key=key)
    assert (refused.state, refused.reason, refused.received) == (IntentState.REFUSED, reason, 0)
    assert refused.message
    assert await gateway.confirm(intent.id, key=key) == refused
    assert await gateway.get_intent(intent.id) == refused
    assert (await gateway.cancel_intent(intent.id)).state is IntentState.CANCELLED


async def test_a_charge_whose_answer_is_lost_is_found_by_its_id(gateway, hasty_gateway):
    intent = await created(gateway, "pm_sandbox_timeoutAfterCharge")
    key = fresh()
    with pytest.raises(Unclear):
        await hasty_gateway.confirm(intent.id, key=key)
    found = await gateway.get_intent(intent.id)
    assert (found.state, found.received) == (IntentState.CAPTURED, 1999)
    assert await gateway.confirm(intent.id, key=key) == found
    with pytest.raises(Refused):
        await gateway.confirm(intent.id, key=fresh())


async def test_a_confirm_that_is_lost_on_its_way_charges_nothing(gateway, hasty_gateway):
    intent = await created(gateway, "pm_sandbox_timeoutBeforeCharge")
    key = fresh()
    with pytest.raises(Unclear):
        await hasty_gateway.confirm(intent.id, key=key)
    assert (await gateway.get_intent(intent.id)).state is IntentState.UNCONFIRMED
    assert (await gateway.confirm(intent.id, key=key)).state is IntentState.CAPTURED


async def test_a_slow_charge_lands_after_its_client_has_gone(gateway, hasty_gateway, eventually):
    intent = await created(gateway, "pm_sandbox_slowCharge")
    with pytest.raises(Unclear):
        await hasty_gateway.confirm(intent.id, key=fresh())
    assert (await gateway.get_intent(intent.id)).state is IntentState.UNCONFIRMED
    await eventually(lambda: gateway.get_intent(intent.id), lambda i: i.state is IntentState.CAPTURED)


async def test_a_slow_charge_does_not_land_on_a_cancelled_intent(gateway, payments, eventually):
    intent = await created(gateway, "pm_sandbox_slowCharge")
    late = asyncio.create_task(gateway.confirm(intent.id, key=fresh()))
    await asyncio.sleep(0)
    assert (await gateway.cancel_intent(intent.id)).state is IntentState.CANCELLED
    with pytest.raises(Refused):
        await late
    found = await gateway.get_intent(intent.id)
    assert (found.state, found.received) == (IntentState.CANCELLED, 0)


async def test_a_key_that_is_being_used_is_a_conflict(gateway):
    intent = await created(gateway, "pm_sandbox_slowCharge")
    key = fresh()
    both = await asyncio.gather(
        gateway.confirm(intent.id, key=key), gateway.confirm(intent.id, key=key), return_exceptions=True
    )
    problems = [one for one in both if isinstance(one, Exception)]
    assert len(problems) == 1
    assert isinstance(problems[0], Transient)


async def test_processing_takes_its_time_and_cannot_be_cancelled(gateway, eventually):
    intent = await created(gateway, "pm_sandbox_processing")
    assert (await gateway.confirm(intent.id, key=fresh())).state is IntentState.PROCESSING
    assert (await gateway.cancel_intent(intent.id)).state is IntentState.PROCESSING
    found = await eventually(
        lambda: gateway.get_intent(intent.id), lambda i: i.state is not IntentState.PROCESSING
    )
    assert (found.state, found.received) == (IntentState.CAPTURED, 1999)


async def test_a_500_after_the_charge_is_replayed_and_the_charge_found(gateway):
    intent = await created(gateway, "pm_sandbox_errorOnceAfterCharge")
    key = fresh()
    for _ in range(2):
        with pytest.raises(Unclear):
            await gateway.confirm(intent.id, key=key)
    assert (await gateway.get_intent(intent.id)).received == 1999


async def test_a_500_on_create_sticks_to_its_key(gateway):
    order = str(uuid.uuid4())
    for _ in range(2):
        with pytest.raises(Unclear):
            await created(gateway, "pm_sandbox_createError", order=order)
    made = await created(gateway, "pm_sandbox_createError", order=order, key=f"{order}/create/2")
    assert (await gateway.confirm(made.id, key=fresh())).state is IntentState.CAPTURED


async def test_an_unknown_method_is_refused_without_its_name(gateway):
    with pytest.raises(Refused) as refused:
        await created(gateway, "pm_card_ofNobody")
    assert "pm_card_ofNobody" not in refused.value.message


async def test_the_same_key_with_another_amount_is_refused(gateway):
    order = str(uuid.uuid4())
    first = await created(gateway, order=order)
    assert await created(gateway, order=order) == first
    with pytest.raises(Refused):
        await created(gateway, order=order, amount=5)


async def test_cancel_tells_how_the_intent_ends_and_can_be_repeated(gateway):
    intent = await created(gateway)
    for _ in range(2):
        assert (await gateway.cancel_intent(intent.id)).state is IntentState.CANCELLED
    with pytest.raises(Refused):
        await gateway.confirm(intent.id, key=fresh())
    charged = await created(gateway)
    await gateway.confirm(charged.id, key=fresh())
    assert (await gateway.cancel_intent(charged.id)).state is IntentState.CAPTURED


async def refunded(gateway, method, *, amount=1999):
    intent = await created(gateway, method)
    await gateway.confirm(intent.id, key=fresh())
    reference = str(uuid.uuid4())
    refund = await gateway.refund(intent.id, key=f"{reference}/1", amount=amount, reference=reference)
    return intent, reference, refund


async def test_a_refund_gives_back_at_once(gateway):
    intent, reference, refund = await refunded(gateway, "pm_card_visa")
    assert (refund.state, refund.amount, refund.currency) == (ProviderRefundState.SUCCEEDED, 1999, "EUR")
    assert (refund.intent_id, refund.reference) == (intent.id, reference)
    assert await gateway.get_refund(refund.id) == refund
    assert await gateway.find_refund(intent.id, reference) == refund
    assert await gateway.find_refund(intent.id, "another") is None
    assert await gateway.refund(intent.id, key=f"{reference}/1", amount=1999, reference=reference) == refund


async def test_a_refund_may_be_pending_first(gateway, eventually):
    _, _, refund = await refunded(gateway, "pm_sandbox_refundPending")
    assert refund.state is ProviderRefundState.PENDING
    await eventually(
        lambda: gateway.get_refund(refund.id), lambda r: r.state is ProviderRefundState.SUCCEEDED
    )


async def test_a_refund_may_fail_and_leaves_its_amount_for_another(gateway, eventually):
    intent, reference, refund = await refunded(gateway, "pm_sandbox_refundFails")
    assert refund.state is ProviderRefundState.PENDING
    with pytest.raises(Refused):
        await gateway.refund(intent.id, key=f"{reference}/2", amount=1, reference=reference)
    failed = await eventually(
        lambda: gateway.get_refund(refund.id), lambda r: r.state is not ProviderRefundState.PENDING
    )
    assert failed.state is ProviderRefundState.FAILED
    assert failed.reason
    assert await gateway.find_refund(intent.id, reference) is None
    again = await gateway.refund(intent.id, key=f"{reference}/3", amount=1999, reference=reference)
    assert again.id != refund.id


async def test_no_more_is_refunded_than_was_taken(gateway):
    intent, _, _ = await refunded(gateway, "pm_card_visa", amount=1000)
    with pytest.raises(Refused):
        await gateway.refund(intent.id, key=str(uuid.uuid4()), amount=1000, reference="more")
    rest = await gateway.refund(intent.id, key=str(uuid.uuid4()), amount=999, reference="rest")
    assert rest.state is ProviderRefundState.SUCCEEDED


async def test_nothing_is_refunded_that_was_not_taken(gateway):
    intent = await created(gateway)
    with pytest.raises(Refused):
        await gateway.refund(intent.id, key=str(uuid.uuid4()), amount=1, reference="early")


async def test_lists_are_complete_over_several_pages(gateway):
    made = {(await created(gateway)).id for _ in range(120)}
    listed = [intent.id async for intent in gateway.intents()]
    assert len(listed) == len(set(listed))
    assert made <= set(listed)
    _, _, refund = await refunded(gateway, "pm_card_visa")
    assert refund.id in [one.id async for one in gateway.refunds()]


async def test_a_pruned_key_makes_a_second_intent_but_no_second_charge(gateway, payments):
    order, key = str(uuid.uuid4()), fresh()
    first = await created(gateway, order=order)
    await gateway.confirm(first.id, key=key)
    status, document, _ = await payments.call("POST", "/_sandbox/prune")
    assert status == 200
    assert document["pruned"] >= 2
    second = await created(gateway, order=order)
    assert second.id != first.id
    assert second.state is IntentState.UNCONFIRMED
    with pytest.raises(Refused):
        await gateway.confirm(first.id, key=key)
