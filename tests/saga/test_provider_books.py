"""The provider's books move without us: refunds in its dashboard, disputes, refusals; then the order is
cancelled."""

from typing import Any

import aiohttp
import pytest

from orderplane.crds.meta import Kind
from orderplane.crds.reasons import Reason
from orderplane.ledgers.payments import ProviderRefundState

from ..cli.terminal import orderplane
from .conftest import MUG, OPENING, Desk, conditions_of, phase_is, settled_verdict
from .proofs import SLOW_ADDRESS

pytestmark = pytest.mark.integration


async def paid(desk: Desk, **more: Any) -> tuple[dict[str, Any], str, int]:
    """An order whose money is taken, its intent, and its total."""
    order = await desk.place([(MUG, 1)], **more)
    await desk.until_row(
        "SELECT 1 FROM payments WHERE merchant = $1 AND order_uid = $2 AND state = 'Captured'",
        order["metadata"]["uid"],
    )
    (intent,) = await desk.intents(order)
    return order, intent.id, order["spec"]["quote"]["amounts"]["total"]


async def dashboard(desk: Desk, path: str, **form: Any) -> dict[str, Any]:
    """What a person does at the provider: its real API, without our metadata."""
    headers = {"Authorization": f"Bearer {desk.plane.env('operator')['ORDERPLANE_PAYMENTS_KEY']}"}
    async with (
        aiohttp.ClientSession(desk.plane.url("payments"), headers=headers) as http,
        http.post(f"/v1/{path}", data={name: str(value) for name, value in form.items()}) as answer,
    ):
        document: dict[str, Any] = await answer.json()
        assert answer.status == 200, document
        return document


async def disputed(desk: Desk, intent: str, **how: Any) -> str:
    """What the customer's bank does."""
    await desk.sandbox("payments", "disputes", {"intent": intent, **how})
    found = [d async for d in desk.backends.payment_provider.disputes() if d.intent_id == intent]
    return found[-1].id


async def cancelled(desk: Desk, order: dict[str, Any]) -> dict[str, Any]:
    await desk.cancel(order)
    return await desk.until(order, phase_is("Cancelled"))


async def withdrawn(desk: Desk, order: dict[str, Any]) -> list[tuple[str, int]]:
    rows = await desk.rows(
        "SELECT kind, amount FROM withdrawals WHERE merchant = $1 AND order_uid = $2 ORDER BY created_at",
        order["metadata"]["uid"],
    )
    return [(row["kind"], row["amount"]) for row in rows]


async def refund_row(desk: Desk, order: dict[str, Any]) -> Any:
    (row,) = await desk.rows(
        "SELECT * FROM refunds WHERE merchant = $1 AND order_uid = $2", order["metadata"]["uid"]
    )
    return row


async def test_what_the_merchant_refunded_whole_is_not_refunded_again(desk: Desk) -> None:
    order, intent, total = await paid(desk, line1=SLOW_ADDRESS)
    await dashboard(desk, "refunds", payment_intent=intent)
    await cancelled(desk, order)
    (refund,) = await desk.refunds(order)
    assert (refund.amount, refund.reference) == (total, "")
    assert await withdrawn(desk, order) == [("Refund", total)]
    assert (await refund_row(desk, order))["state"] == "NotNeeded"
    events = await desk.history(order)
    assert (events.count("payment.withdrawn"), events.count("payment.refunded")) == (1, 0)
    assert await desk.stock(MUG) == (OPENING, 0)


async def test_what_the_merchant_refunded_in_parts_leaves_the_rest(desk: Desk) -> None:
    order, intent, total = await paid(desk, line1=SLOW_ADDRESS)
    for amount in (100, 150):
        await dashboard(desk, "refunds", payment_intent=intent, amount=amount)
    await cancelled(desk, order)
    assert sorted(refund.amount for refund in await desk.refunds(order)) == sorted([100, 150, total - 250])
    assert sorted(await withdrawn(desk, order)) == [("Refund", 100), ("Refund", 150)]
    row = await refund_row(desk, order)
    assert (row["state"], row["amount"]) == ("Succeeded", total - 250)
    data = await desk.rows(
        "SELECT data FROM history WHERE merchant = $1 AND subject = $2 AND type = 'payment.refunded'",
        order["metadata"]["uid"],
    )
    assert [found["data"]["amount"] for found in data] == [total - 250]


async def test_a_shipped_order_is_cancelled_after_a_refund_at_the_provider(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)], line1="6 Harbour Lane")
    await desk.until(order, phase_is("Shipped"))
    (intent,) = await desk.intents(order)
    await dashboard(desk, "refunds", payment_intent=intent.id, amount=250)
    await desk.cancel(order)
    ended = await desk.until(order, phase_is("Cancelled", "Delivered"))
    total = order["spec"]["quote"]["amounts"]["total"]
    back = sum(refund.amount for refund in await desk.refunds(order))
    # The carrier may have been faster than the cancel; then the merchant's refund stays what it is.
    assert back == (total if ended["status"]["phase"] == "Cancelled" else 250)


async def test_a_dispute_is_waited_for_and_its_money_not_paid_twice(desk: Desk) -> None:
    order, intent, total = await paid(desk, line1=SLOW_ADDRESS)
    dispute = await disputed(desk, intent)
    await desk.cancel(order)
    stalled = await desk.until(
        order, lambda o: conditions_of(o).get("Stalled") == ("True", "PaymentDisputed")
    )
    assert stalled["status"]["phase"] == "Compensating"
    assert await desk.refunds(order) == []
    answer = await resolved(desk, order)
    assert answer.code == 1
    assert "the provider has not refused its refund" in answer.err
    await dashboard(desk, f"disputes/{dispute}/close")
    assert (await retried(desk, order)).code == 0
    await desk.until(order, phase_is("Cancelled"))
    assert await desk.refunds(order) == []
    assert await withdrawn(desk, order) == [("Dispute", total)]


async def test_a_dispute_that_was_won_is_refunded(desk: Desk) -> None:
    order, intent, total = await paid(desk, line1=SLOW_ADDRESS)
    dispute = await disputed(desk, intent)
    await desk.cancel(order)
    await desk.until(order, lambda o: conditions_of(o).get("Stalled") == ("True", "PaymentDisputed"))
    evidence = {"evidence[uncategorized_text]": "winning_evidence"}
    await dashboard(desk, f"disputes/{dispute}", **evidence)
    assert (await retried(desk, order)).code == 0
    await desk.until(order, phase_is("Cancelled"))
    (refund,) = await desk.refunds(order)
    assert (refund.amount, refund.state) == (total, ProviderRefundState.SUCCEEDED)
    assert await withdrawn(desk, order) == []


async def test_a_part_that_the_bank_took_leaves_a_rest_for_a_person(desk: Desk) -> None:
    order, intent, total = await paid(desk, line1=SLOW_ADDRESS)
    dispute = await disputed(desk, intent, amount=500)
    await dashboard(desk, f"disputes/{dispute}/close")
    await desk.cancel(order)
    # The provider refunds nothing of a charge that was charged back.
    await desk.until(order, lambda o: conditions_of(o).get("Stalled") == ("True", "RefundFailed"))
    assert await withdrawn(desk, order) == [("Dispute", 500)]
    row = await refund_row(desk, order)
    assert (row["state"], row["amount"], row["provider_id"]) == ("Failed", total - 500, None)
    assert "charge_disputed" in row["reason"]
    answer = await resolved(desk, order)
    assert answer.code == 0
    assert f"{(total - 500) / 100:.2f} EUR" in answer.out
    await desk.until(order, phase_is("Cancelled"))


async def test_a_refused_refund_is_failed_and_somebody_refunds_it_there(desk: Desk) -> None:
    order, _, _ = await paid(desk, line1=SLOW_ADDRESS, method="pm_sandbox_refundRefused")
    await desk.cancel(order)
    await desk.until(order, lambda o: conditions_of(o).get("Stalled") == ("True", "RefundFailed"))
    payment = await desk.child(Kind.PAYMENT, order)
    assert conditions_of(payment)["Refunded"] == ("False", "RefundFailed")
    assert "balance_insufficient" in (await refund_row(desk, order))["reason"]
    await retried(desk, order)
    await desk.until_row(
        "SELECT 1 FROM refunds WHERE merchant = $1 AND order_uid = $2 AND attempt = 2 AND state = 'Failed'",
        order["metadata"]["uid"],
    )
    answer = await resolved(desk, order)
    assert answer.code == 0, answer.err
    ended = await desk.until(order, phase_is("Cancelled"))
    references = {entry["step"]: entry["reference"] for entry in ended["status"]["compensation"]}
    assert references["RefundPayment"] == "S-1"
    told = await desk.rows(
        "SELECT type, data ->> 'actor', data ->> 'reference' FROM history "
        "WHERE merchant = $1 AND subject = $2 AND data ? 'actor' ORDER BY seq",
        order["metadata"]["uid"],
    )
    ((role,),) = await desk.rows("SELECT session_user WHERE $1 <> ''")
    assert [tuple(row) for row in told] == [
        ("order.retried", "kubernetes:admin", None),
        ("payment.refunded", f"database:{role}", "S-1"),
        ("order.cancelled", "kubernetes:admin", None),
    ]
    assert "By kubernetes:admin." in (await desk.events(order))[Reason.COMPENSATING]
    again = await resolved(desk, order)
    assert (again.code, "its money is back already" in again.err) == (1, True)
    assert "ValueError" not in again.err


async def resolved(desk: Desk, order: dict[str, Any]) -> Any:
    return await orderplane(
        "resolve", order["metadata"]["name"], "-n", desk.name, "--reason", "paid by hand",
        "--reference", "S-1", env=desk.plane.env("admin"),
    )  # fmt: skip


async def retried(desk: Desk, order: dict[str, Any]) -> Any:
    return await orderplane("retry", order["metadata"]["name"], "-n", desk.name, env=desk.plane.env("admin"))


async def test_the_audit_names_what_was_refunded_of_a_delivered_order(desk: Desk) -> None:
    order = await desk.place([(MUG, 1)])
    await desk.until(order, phase_is("Delivered"))
    (intent,) = await desk.intents(order)
    refund = await dashboard(desk, "refunds", payment_intent=intent.id, amount=100)
    verdict = await settled_verdict(desk.plane)
    assert verdict.is_clean
    name = f"{desk.name}/{order['metadata']['name']}"
    (told,) = (notice.detail for notice in verdict.notices if notice.subject == name)
    assert told == f"refund {refund['id']} of 1.00 EUR, Succeeded at the provider; the order is Delivered"
