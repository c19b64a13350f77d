"""The payment provider through the official SDK, against the payment sandbox: every magic method."""

import asyncio
import uuid

import pytest
import stripe

from orderplane.adapters.payments.stripe import parse_dispute
from orderplane.adapters.payments.stripe_currencies import charge_limits
from orderplane.controllers.payment.ports import Dispute, DisputeState, IntentState, Returns
from orderplane.crds.money import EXPONENTS
from orderplane.ledgers.errors import Refused, Transient, Unclear
from orderplane.ledgers.payments import ProviderRefundState, Withdrawal, WithdrawalKind


async def created(provider, method="pm_card_visa", *, amount=1999, currency="EUR", order=None, key=None):
    order = order or str(uuid.uuid4())
    return await provider.create_intent(
        key=key or f"{order}/create/1",
        amount=amount,
        currency=currency,
        method=method,
        merchant="shop",
        reference=order,
    )


def fresh():
    return f"{uuid.uuid4()}/confirm/1"


async def test_a_charge_is_two_calls(provider):
    order = str(uuid.uuid4())
    intent = await created(provider, order=order)
    assert (intent.state, intent.received) == (IntentState.UNCONFIRMED, 0)
    charged = await provider.confirm(intent.id, key=fresh())
    assert charged.state is IntentState.CAPTURED
    assert (charged.amount, charged.received, charged.currency) == (1999, 1999, "EUR")
    assert charged.reference == order
    assert await provider.get_intent(intent.id) == charged


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("pm_card_chargeDeclined", "CardDeclined"),
        ("pm_card_insufficientFunds", "InsufficientFunds"),
        ("pm_card_expired", "ExpiredCard"),
        ("pm_card_authenticationRequired", "AuthenticationRequired"),
    ],
)
async def test_a_refusal_is_an_answer_and_can_be_cancelled(provider, method, reason):
    intent = await created(provider, method)
    key = fresh()
    refused = await provider.confirm(intent.id, key=key)
    assert (refused.state, refused.reason, refused.received) == (IntentState.REFUSED, reason, 0)
    assert refused.message
    assert await provider.confirm(intent.id, key=key) == refused
    assert await provider.get_intent(intent.id) == refused
    assert (await provider.cancel_intent(intent.id)).state is IntentState.CANCELLED


async def test_a_charge_whose_answer_is_lost_is_found_by_its_id(provider, hasty_provider):
    intent = await created(provider, "pm_sandbox_timeoutAfterCharge")
    key = fresh()
    with pytest.raises(Unclear):
        await hasty_provider.confirm(intent.id, key=key)
    found = await provider.get_intent(intent.id)
    assert (found.state, found.received) == (IntentState.CAPTURED, 1999)
    assert await provider.confirm(intent.id, key=key) == found
    with pytest.raises(Refused):
        await provider.confirm(intent.id, key=fresh())


async def test_a_confirm_that_is_lost_on_its_way_charges_nothing(provider, hasty_provider):
    intent = await created(provider, "pm_sandbox_timeoutBeforeCharge")
    key = fresh()
    with pytest.raises(Unclear):
        await hasty_provider.confirm(intent.id, key=key)
    assert (await provider.get_intent(intent.id)).state is IntentState.UNCONFIRMED
    assert (await provider.confirm(intent.id, key=key)).state is IntentState.CAPTURED


async def test_a_slow_charge_lands_after_its_client_has_gone(provider, hasty_provider, eventually):
    intent = await created(provider, "pm_sandbox_slowCharge")
    with pytest.raises(Unclear):
        await hasty_provider.confirm(intent.id, key=fresh())
    assert (await provider.get_intent(intent.id)).state is IntentState.UNCONFIRMED
    await eventually(lambda: provider.get_intent(intent.id), lambda i: i.state is IntentState.CAPTURED)


async def test_a_slow_charge_does_not_land_on_a_cancelled_intent(provider, payments, eventually):
    intent = await created(provider, "pm_sandbox_slowCharge")
    late = asyncio.create_task(provider.confirm(intent.id, key=fresh()))
    await asyncio.sleep(0)
    assert (await provider.cancel_intent(intent.id)).state is IntentState.CANCELLED
    with pytest.raises(Refused):
        await late
    found = await provider.get_intent(intent.id)
    assert (found.state, found.received) == (IntentState.CANCELLED, 0)


async def test_a_key_that_is_being_used_is_a_conflict(provider):
    intent = await created(provider, "pm_sandbox_slowCharge")
    key = fresh()
    both = await asyncio.gather(
        provider.confirm(intent.id, key=key), provider.confirm(intent.id, key=key), return_exceptions=True
    )
    problems = [one for one in both if isinstance(one, Exception)]
    assert len(problems) == 1
    assert isinstance(problems[0], Transient)


async def test_processing_takes_its_time_and_cannot_be_cancelled(provider, eventually):
    intent = await created(provider, "pm_sandbox_processing")
    assert (await provider.confirm(intent.id, key=fresh())).state is IntentState.PROCESSING
    assert (await provider.cancel_intent(intent.id)).state is IntentState.PROCESSING
    found = await eventually(
        lambda: provider.get_intent(intent.id), lambda i: i.state is not IntentState.PROCESSING
    )
    assert (found.state, found.received) == (IntentState.CAPTURED, 1999)


async def test_a_500_after_the_charge_is_replayed_and_the_charge_found(provider):
    intent = await created(provider, "pm_sandbox_errorOnceAfterCharge")
    key = fresh()
    for _ in range(2):
        with pytest.raises(Unclear):
            await provider.confirm(intent.id, key=key)
    assert (await provider.get_intent(intent.id)).received == 1999


async def test_a_500_on_create_sticks_to_its_key(provider):
    order = str(uuid.uuid4())
    for _ in range(2):
        with pytest.raises(Unclear):
            await created(provider, "pm_sandbox_createError", order=order)
    made = await created(provider, "pm_sandbox_createError", order=order, key=f"{order}/create/2")
    assert (await provider.confirm(made.id, key=fresh())).state is IntentState.CAPTURED


async def test_an_unknown_method_is_refused_without_its_name(provider):
    with pytest.raises(Refused) as refused:
        await created(provider, "pm_card_ofNobody")
    assert "pm_card_ofNobody" not in refused.value.message


async def test_the_same_key_with_another_amount_is_refused(provider):
    order = str(uuid.uuid4())
    first = await created(provider, order=order)
    assert await created(provider, order=order) == first
    with pytest.raises(Refused):
        await created(provider, order=order, amount=55)


async def test_cancel_tells_how_the_intent_ends_and_can_be_repeated(provider):
    intent = await created(provider)
    for _ in range(2):
        assert (await provider.cancel_intent(intent.id)).state is IntentState.CANCELLED
    with pytest.raises(Refused):
        await provider.confirm(intent.id, key=fresh())
    charged = await created(provider)
    await provider.confirm(charged.id, key=fresh())
    assert (await provider.cancel_intent(charged.id)).state is IntentState.CAPTURED


async def refunded(provider, method, *, amount=1999):
    intent = await created(provider, method)
    await provider.confirm(intent.id, key=fresh())
    reference = str(uuid.uuid4())
    refund = await provider.refund(
        intent.id, key=f"{reference}/1", amount=amount, currency="EUR", reference=reference
    )
    return intent, reference, refund


async def test_a_refund_gives_back_at_once(provider):
    intent, reference, refund = await refunded(provider, "pm_card_visa")
    assert (refund.state, refund.amount, refund.currency) == (ProviderRefundState.SUCCEEDED, 1999, "EUR")
    assert (refund.intent_id, refund.reference) == (intent.id, reference)
    assert await provider.get_refund(refund.id) == refund
    returns = await provider.returns(intent.id)
    assert (returns.refund_of(reference), returns.refund_of("another")) == (refund, None)
    assert (
        await provider.refund(
            intent.id, key=f"{reference}/1", amount=1999, currency="EUR", reference=reference
        )
        == refund
    )


async def test_a_refund_may_be_pending_first(provider, eventually):
    _, _, refund = await refunded(provider, "pm_sandbox_refundPending")
    assert refund.state is ProviderRefundState.PENDING
    await eventually(
        lambda: provider.get_refund(refund.id), lambda r: r.state is ProviderRefundState.SUCCEEDED
    )


async def test_a_refund_may_fail_and_leaves_its_amount_for_another(provider, eventually):
    intent, reference, refund = await refunded(provider, "pm_sandbox_refundFails")
    assert refund.state is ProviderRefundState.PENDING
    with pytest.raises(Refused):
        await provider.refund(intent.id, key=f"{reference}/2", amount=1, currency="EUR", reference=reference)
    failed = await eventually(
        lambda: provider.get_refund(refund.id), lambda r: r.state is not ProviderRefundState.PENDING
    )
    assert failed.state is ProviderRefundState.FAILED
    assert failed.reason
    assert (await provider.returns(intent.id)).refund_of(reference) is None
    again = await provider.refund(
        intent.id, key=f"{reference}/3", amount=1999, currency="EUR", reference=reference
    )
    assert again.id != refund.id


async def test_no_more_is_refunded_than_was_taken(provider):
    intent, _, _ = await refunded(provider, "pm_card_visa", amount=1000)
    with pytest.raises(Refused):
        await provider.refund(intent.id, key=str(uuid.uuid4()), amount=1000, currency="EUR", reference="more")
    rest = await provider.refund(
        intent.id, key=str(uuid.uuid4()), amount=999, currency="EUR", reference="rest"
    )
    assert rest.state is ProviderRefundState.SUCCEEDED


@pytest.mark.parametrize("currency", sorted(EXPONENTS))
async def test_the_least_and_the_greatest_charge_come_back_as_they_were_sent(provider, currency):
    limits = charge_limits()[currency]
    for amount in (limits.least, limits.greatest):
        intent = await created(provider, amount=amount, currency=currency)
        assert (intent.amount, intent.currency) == (amount, currency)
        taken = await provider.confirm(intent.id, key=fresh())
        assert taken.received == amount
        part = limits.least - limits.step if amount == limits.least > limits.step else limits.step
        refund = await provider.refund(
            intent.id, key=fresh(), amount=part, currency=currency, reference="part"
        )
        assert (refund.amount, refund.currency) == (part, currency)


@pytest.mark.parametrize(
    ("currency", "amount", "sent"), [("ISK", 1990, 199_000), ("UGX", 5000, 500_000), ("JPY", 900, 900)]
)
async def test_an_amount_travels_as_the_provider_counts_it(provider, payments, currency, amount, sent):
    intent = await created(provider, amount=amount, currency=currency)
    _, document, _ = await payments.call("GET", f"/v1/payment_intents/{intent.id}")
    assert document["amount"] == sent


async def test_a_fraction_that_the_provider_cannot_take_is_refused_before_it_is_sent(provider):
    with pytest.raises(Refused, match="multiples of 10"):
        await created(provider, amount=1235, currency="KWD")
    intent = await created(provider, amount=1230, currency="KWD")
    await provider.confirm(intent.id, key=fresh())
    with pytest.raises(Refused, match="multiples of 10"):
        await provider.refund(intent.id, key=fresh(), amount=1225, currency="KWD", reference="part")


async def test_nothing_is_refunded_that_was_not_taken(provider):
    intent = await created(provider)
    with pytest.raises(Refused):
        await provider.refund(intent.id, key=str(uuid.uuid4()), amount=1, currency="EUR", reference="early")


async def test_lists_are_complete_over_several_pages(provider):
    made = {(await created(provider)).id for _ in range(120)}
    listed = [intent.id async for intent in provider.intents()]
    assert len(listed) == len(set(listed))
    assert made <= set(listed)
    _, _, refund = await refunded(provider, "pm_card_visa")
    assert refund.id in [one.id async for one in provider.refunds()]


async def test_a_pruned_key_makes_a_second_intent_but_no_second_charge(provider, payments):
    order, key = str(uuid.uuid4()), fresh()
    first = await created(provider, order=order)
    await provider.confirm(first.id, key=key)
    status, document, _ = await payments.call("POST", "/_sandbox/prune")
    assert status == 200
    assert document["pruned"] >= 2
    second = await created(provider, order=order)
    assert second.id != first.id
    assert second.state is IntentState.UNCONFIRMED
    with pytest.raises(Refused):
        await provider.confirm(first.id, key=key)


async def captured(provider, method="pm_card_visa", **more):
    intent = await created(provider, method, **more)
    await provider.confirm(intent.id, key=fresh())
    return intent


async def elsewhere(payments, intent, **form):
    """What the merchant does in the provider's dashboard."""
    status, document, _ = await payments.call(
        "POST", "/v1/refunds", form={"payment_intent": intent.id, **form}
    )
    assert status == 200, document
    return document


async def disputed(payments, intent, **how):
    status, document, _ = await payments.call("POST", "/_sandbox/disputes", json={"intent": intent.id, **how})
    assert status == 200, document
    return document["id"]


async def test_what_others_refunded_is_seen_and_leaves_less(provider, payments):
    intent = await captured(provider)
    assert await provider.returns(intent.id) == Returns()
    other = await elsewhere(payments, intent, amount="999")
    returns = await provider.returns(intent.id)
    assert returns.withdrawals({"ours"}) == (Withdrawal(other["id"], WithdrawalKind.REFUND, 999),)
    with pytest.raises(Refused, match="amount_too_large"):
        await provider.refund(intent.id, key=fresh(), amount=1999, currency="EUR", reference="ours")
    rest = await provider.refund(intent.id, key=fresh(), amount=1000, currency="EUR", reference="ours")
    assert (await provider.returns(intent.id)).refund_of("ours") == rest
    with pytest.raises(Refused, match="charge_already_refunded"):
        await provider.refund(intent.id, key=fresh(), amount=1, currency="EUR", reference="more")


@pytest.mark.parametrize(
    ("decide", "state"),
    [
        ({"path": "", "form": {"evidence[uncategorized_text]": "winning_evidence"}}, DisputeState.WON),
        ({"path": "", "form": {"evidence[uncategorized_text]": "losing_evidence"}}, DisputeState.LOST),
        ({"path": "/close", "form": {}}, DisputeState.LOST),
    ],
)
async def test_a_dispute_holds_the_money_until_it_is_decided(provider, payments, decide, state):
    intent = await captured(provider)
    id_ = await disputed(payments, intent)
    (dispute,) = (await provider.returns(intent.id)).disputes
    assert (dispute.id, dispute.state, dispute.amount) == (id_, DisputeState.OPEN, 1999)
    with pytest.raises(Refused, match="charge_disputed"):
        await provider.refund(intent.id, key=fresh(), amount=1999, currency="EUR", reference="r")
    status, _, _ = await payments.call("POST", f"/v1/disputes/{id_}{decide['path']}", form=decide["form"])
    assert status == 200
    returns = await provider.returns(intent.id)
    assert returns.disputes[0].state is state
    is_lost = state is DisputeState.LOST
    assert [w.provider_id for w in returns.withdrawals({"ours"})] == [id_] * is_lost
    if is_lost:
        with pytest.raises(Refused, match="charge_disputed"):
            await provider.refund(intent.id, key=fresh(), amount=1, currency="EUR", reference="r")
    else:
        await provider.refund(intent.id, key=fresh(), amount=1999, currency="EUR", reference="r")
    status, document, _ = await payments.call("POST", f"/v1/disputes/{id_}/close")
    assert (status, "already closed" in document["error"]["message"]) == (400, True)


async def test_an_inquiry_takes_nothing(provider, payments):
    intent = await captured(provider)
    await disputed(payments, intent, status="warning_needs_response")
    returns = await provider.returns(intent.id)
    assert returns.disputes[0].state is DisputeState.INQUIRY
    assert (returns.open_dispute, returns.withdrawals({"ours"})) == (None, ())
    await provider.refund(intent.id, key=fresh(), amount=1999, currency="EUR", reference="r")


async def test_disputes_are_listed(provider, payments):
    intent = await captured(provider, "pm_card_createDispute")
    found = {dispute.intent_id: dispute async for dispute in provider.disputes()}
    assert found[intent.id].state is DisputeState.OPEN


@pytest.mark.parametrize(
    ("status", "amounts", "state"),
    [
        ("warning_under_review", [], DisputeState.INQUIRY),
        ("warning_closed", [], DisputeState.INQUIRY),
        ("under_review", [-1999], DisputeState.OPEN),
        ("prevented", [], DisputeState.INQUIRY),
        ("prevented", [-1999], DisputeState.LOST),
        ("prevented", [-1999, 1999], DisputeState.INQUIRY),
        ("a_word_of_tomorrow", [], DisputeState.OPEN),
    ],
)
def test_every_status_of_a_dispute_has_a_meaning(status, amounts, state):
    found = stripe.Dispute.construct_from(
        {
            "id": "du_1",
            "object": "dispute",
            "amount": 199_900,
            "currency": "isk",
            "payment_intent": "pi_1",
            "status": status,
            "balance_transactions": [{"amount": amount} for amount in amounts],
        },
        None,
    )
    assert parse_dispute(found) == Dispute("du_1", "pi_1", state, 1999, "ISK")


async def test_a_refund_that_is_refused_says_why(provider):
    intent = await captured(provider, "pm_sandbox_refundRefused")
    with pytest.raises(Refused, match="balance_insufficient"):
        await provider.refund(intent.id, key=fresh(), amount=1999, currency="EUR", reference="r")
