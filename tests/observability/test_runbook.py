"""The runbook: its pages have one form, its expressions are right, and its commands run on a live plane."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from orderplane.crds.meta import Kind
from orderplane.dev.prometheus_rule import rules_file
from orderplane.gateway.identity.user_store import UserStore, new_user_id

from ..support.documented import blocks, run
from ..support.plane import ORDER, Merchant
from .promql import labels_by_series, problems

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook"
PAGES = sorted(page for page in RUNBOOK.glob("*.md") if page.stem != "README")
HEADINGS = ["Meaning", "Impact", "Diagnosis", "What to do"]

MAY_FIND = ("orderplane audit", "orderplane dlq replay")
"""Commands whose exit code 1 is an answer: other tests of this plane leave what an audit finds."""

LAST = "orderplane resolve"
"""It ends the order that the other commands look at."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_it_means_who_notices_how_to_look_and_what_to_do(page: Path) -> None:
    assert re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE) == HEADINGS
    assert blocks(page, "sh") or blocks(page, "promql"), "nobody can look with words alone"
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        assert (RUNBOOK / link).exists(), link


def test_expressions_name_only_what_is_exported() -> None:
    known = labels_by_series()
    known |= dict.fromkeys(re.findall(r"record: (\S+)", rules_file().read_text()), frozenset())
    found = {
        f"{page.stem}: {problem}"
        for page in PAGES
        for expression in blocks(page, "promql")
        for problem in problems(expression, known)
    }
    assert found == set()


@pytest.mark.integration
@pytest.mark.timeout(290)
async def test_every_command_runs_on_a_live_plane(merchant: Merchant) -> None:
    """For an order whose refund has failed, of a customer whose mail is refused."""
    commands = list(dict.fromkeys(line for page in PAGES for line in blocks(page, "sh")))
    assert len(commands) > 15
    commands.sort(key=lambda line: line.startswith(LAST))
    name = await an_order_of_a_customer_without_mailbox(merchant)
    await until_its_refund_failed(merchant, name)
    assert merchant.plane.kubectl is not None
    env = {
        **os.environ,
        **merchant.plane.env("admin"),
        "PATH": f"{Path(sys.executable).parent}:{merchant.plane.kubectl.parent}:{os.environ['PATH']}",
        "MERCHANT": merchant.name,
        "ORDER": name,
        "NUMBER": await a_dead_letter(merchant),
    }
    for command in commands:
        code, out = await run(command, env)
        async with asyncio.timeout(60):
            # `orderplane retry` came before, and the provider has not refused again yet.
            while command.startswith(LAST) and "has not refused its refund; wait" in out:
                await asyncio.sleep(0.5)
                code, out = await run(command, env)
        allowed = {0, 1} if command.startswith(MAY_FIND) else {0}
        assert code in allowed, f"{command} ended with {code}: {out}"
        assert out.strip() or "--ignore-not-found" in command, f"{command} says nothing"


async def an_order_of_a_customer_without_mailbox(merchant: Merchant) -> str:
    """Placed with `kubectl apply`; its label is refused, and its refund as well."""
    name, customer = "o-runbook", new_user_id()
    await UserStore(merchant.pool).add(
        merchant.name, customer, email=f"bounced-{merchant.name}@example.org", password_hash="none",
        role="customer", is_confirmed=True,
    )  # fmt: skip
    spec: dict[str, Any] = {
        "customer": customer,
        "paymentMethod": "pm_sandbox_refundFails",
        "items": ORDER["items"],
        "address": {**ORDER["address"], "line1": "9 Island Walk"},
    }
    await merchant.api.create(
        Kind.ORDER,
        merchant.name,
        {
            "apiVersion": "orderplane.dev/v1alpha1",
            "kind": "Order",
            "metadata": {"name": name, "namespace": merchant.name},
            "spec": spec,
        },
    )
    return name


async def until_its_refund_failed(merchant: Merchant, name: str) -> None:
    async with asyncio.timeout(90):
        while True:
            order = await merchant.api.get(Kind.ORDER, merchant.name, name)
            stalled = [c for c in order.get("status", {}).get("conditions", ()) if c["type"] == "Stalled"]
            if stalled and (stalled[0]["status"], stalled[0]["reason"]) == ("True", "RefundFailed"):
                return
            await asyncio.sleep(0.2)


async def a_dead_letter(merchant: Merchant) -> str:
    """The number of the first message that the mail server refused."""
    env = {**os.environ, **merchant.plane.env("admin")}
    async with asyncio.timeout(60):
        while True:
            _, out = await run(f"{sys.executable} -m orderplane.cli.main dlq list --json", env)
            if letters := json.loads(out):
                return str(letters[-1]["number"])
            await asyncio.sleep(0.5)
