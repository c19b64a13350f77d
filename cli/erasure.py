"""`orderplane erase`: erase the personal data of a customer."""

import os
from typing import Annotated

import typer

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.postgres.pool import open_pool
from orderplane.cli.console import AsJson, console, need, run
from orderplane.cli.documents import Erasure, print_json
from orderplane.crds.api_errors import NotFound
from orderplane.crds.defaults import customer_hash
from orderplane.crds.meta import CUSTOMER_LABEL, Kind
from orderplane.gateway.identity.user_store import UserStore
from orderplane.ledgers.postgres.erasure import PostgresErasure


def erase(
    customer: Annotated[str, typer.Argument(help="The customer's id, as their orders have it.")],
    merchant: Annotated[str, typer.Option(help="The merchant's namespace.")] = "demo",
    as_json: AsJson = False,
) -> None:
    """Erase the personal data of a customer.

    It is their account, and the address, metadata and payment method of their orders. What was bought, and
    for how much, stays for the books.

    Orders that are under way need their address. They leave the API server as soon as they have ended, and
    are archived without it; run the command again to see how many are left.

    Example:

        orderplane erase c-1001 --merchant demo
    """
    done = run(_erase(merchant, customer))
    if as_json:
        print_json(done)
        return
    account = "The account is deleted" if done.account else "There is no account of this name"
    console.print(f"{account}; {done.archived} archived orders are without personal data.", markup=False)
    if done.live:
        console.print(
            f"{done.live} orders are still in the API server; each is archived without once it has ended.",
            markup=False,
        )


async def _erase(merchant: str, customer: str) -> Erasure:
    pool = await open_pool(need("ORDERPLANE_POSTGRES_DSN"), size=2)
    try:
        # The ledgers first: what leaves from now on is archived without personal data.
        erased = await PostgresErasure(pool).erase(merchant, customer)
        had_account = await UserStore(pool).delete(merchant, customer)
    finally:
        await pool.close()
    async with await ApiClient.connect(
        user_agent="orderplane-cli", timeout_seconds=30, kubeconfig=os.environ.get("KUBECONFIG")
    ) as api:
        live = await _hasten(api, merchant, customer)
    return Erasure(
        customer=customer, account=had_account, archived=erased.orders, requests=erased.requests, live=live
    )


async def _hasten(api: ApiClient, merchant: str, customer: str) -> int:
    """Have every order of the customer leave at its end; answers how many are still there."""
    selector, token, count = f"{CUSTOMER_LABEL}={customer_hash(merchant, customer)}", None, 0
    while True:
        page = await api.list_page(
            Kind.ORDER, merchant, limit=250, continue_token=token, label_selector=selector
        )
        for order in page.items:
            if order["spec"]["customer"] != customer:
                continue
            patch = {"metadata": {"uid": order["metadata"]["uid"]}, "spec": {"ttlSecondsAfterFinished": 0}}
            try:
                await api.merge_patch(Kind.ORDER, merchant, order["metadata"]["name"], patch)
            except NotFound:
                continue
            count += 1
        token = page.continue_token
        if token is None:
            return count
