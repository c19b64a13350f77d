"""`orderplane retry` and `orderplane resolve`: manual help for an order that is stalled."""

import os
from datetime import UTC, datetime
from typing import Annotated

import typer

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.postgres.pool import open_pool
from orderplane.cli.console import AsJson, console, fail, need, run
from orderplane.cli.documents import Resolution, Retry, print_json
from orderplane.cli.exit_codes import WRONG_USAGE
from orderplane.crds.meta import RETRIED_BY_ANNOTATION, RETRY_ANNOTATION, Kind
from orderplane.crds.order import MOST_REFERENCE
from orderplane.crds.text import check_line
from orderplane.ledgers.errors import NothingToSettle
from orderplane.ledgers.postgres.settlement import settle_by_hand

Order = Annotated[str, typer.Argument(help="The Order's name.")]
Merchant = Annotated[str, typer.Option("--namespace", "-n", help="The merchant's namespace.")]


def retry(order: Order, namespace: Merchant = "demo", as_json: AsJson = False) -> None:
    """Retry a stalled order now.

    Example:

        orderplane retry o-4kq2 -n demo
    """
    run(_retry(namespace, order))
    if as_json:
        print_json(Retry(namespace=namespace, order=order))
        return
    text = f"{namespace}/{order} is tried again; watch it: kubectl -n {namespace} get order {order} -w"
    console.print(text, markup=False, soft_wrap=True)


def resolve(
    order: Order,
    reason: Annotated[str, typer.Option(help="Why it was settled by hand.")],
    reference: Annotated[
        str, typer.Option(help="Where that can be looked up, for example the number of the bank transfer.")
    ],
    namespace: Merchant = "demo",
    as_json: AsJson = False,
) -> None:
    """Record that a person settled what a provider refused, so that compensation continues.

    A refund that the provider refused was paid back by hand; or a label that the carrier does not take back
    was destroyed, so that its parcel is not handed over; or a parcel that came back was settled without a
    refund.

    Examples:

        orderplane resolve o-4kq2 --reason "card closed" --reference SEPA-2026-118

        orderplane resolve o-4kq2 --reason "label torn up" --reference TICKET-77
    """
    _check_reference(reference)
    done = run(_resolve(namespace, order, reason, reference))
    if as_json:
        print_json(Resolution(namespace=namespace, order=order, settled=done, reference=reference))
        return
    console.print(f"{namespace}/{order}: {done} ({reference}).", markup=False, soft_wrap=True)


def _check_reference(reference: str) -> None:
    """It is in events and in the order's status."""
    try:
        is_shown = 0 < len(check_line(reference)) <= MOST_REFERENCE
    except ValueError:
        is_shown = False
    if not is_shown:
        fail(f"--reference has 1 to {MOST_REFERENCE} printable characters.", code=WRONG_USAGE)


async def _retry(namespace: str, order: str) -> None:
    async with await ApiClient.connect(
        user_agent="orderplane-cli", kubeconfig=os.environ.get("KUBECONFIG")
    ) as api:
        # The admission webhook notes who asks; while it is away, nobody is better than who asked before.
        annotations = {RETRY_ANNOTATION: datetime.now(UTC).isoformat(), RETRIED_BY_ANNOTATION: None}
        await api.merge_patch(Kind.ORDER, namespace, order, {"metadata": {"annotations": annotations}})


async def _resolve(namespace: str, order: str, reason: str, reference: str) -> str:
    pool = await open_pool(need("ORDERPLANE_POSTGRES_DSN"), size=2)
    try:
        return await settle_by_hand(pool, namespace, order, reason=reason, reference=reference)
    except NothingToSettle as problem:
        fail(str(problem))
    finally:
        await pool.close()
