"""Every command with `--json`: what it prints fits the schema of its answer."""

import asyncio
import json
import re
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, RootModel, TypeAdapter
from typer.main import get_command
from typer.testing import CliRunner, Result

from orderplane.cli import dlq, documents, install, repair
from orderplane.cli.exit_codes import MEANINGS
from orderplane.cli.main import app
from orderplane.client import responses
from orderplane.dev import command as dev
from orderplane.dev.demo.products import seed
from orderplane.events.dead_letters import DeadLetter
from orderplane.events.notifications import Channel
from orderplane.workers.notifier.plan import State
from orderplane.workers.notifier.replay import Replayed, Verdict

from ..support.plane import ORDER, PASSWORD, Merchant
from .terminal import orderplane
from .test_commands import COMMANDS

RUNNER = CliRunner()
PRICE_RULE = Path(__file__).parents[2] / "docs" / "examples" / "price-rule.json"

ANSWERS: dict[str, Any] = {
    "audit": documents.Audit,
    "clients add": documents.Client,
    "crds install": documents.Installed,
    "dev down": dev.Down,
    "dev env": dev.Environment,
    "dev prepare": dev.Prepared,
    "dev status": dev.Status,
    "dev up": dev.Up,
    "dlq list": documents.DeadLetters,
    "dlq replay": documents.Replay,
    "dlq show": documents.DeadLetterRecord,
    "drain": documents.Drain,
    "keys endpoint": documents.EndpointKey,
    "keys new": documents.Key,
    "login": documents.Login,
    "logout": documents.Logout,
    "migrate": documents.Migrated,
    "notifications": documents.Notifications,
    "orders cancel": responses.Order,
    "orders create": responses.Accepted,
    "orders get": responses.Order,
    "orders list": responses.OrderPage,
    "orders refund": responses.Refund,
    "orders refunds": responses.Refunds,
    "orders timeline": responses.Timeline,
    "orders watch": responses.Order,
    "prices delete": documents.PriceRuleDeletion,
    "prices history": responses.PriceRuleVersionPage,
    "prices list": responses.PriceRuleList,
    "prices quote": responses.Quote,
    "prices set": responses.PriceRule,
    "prices show": responses.PriceRule,
    "renew-certificate": documents.CertificateRenewal,
    "resolve": documents.Resolution,
    "retry": documents.Retry,
    "erase": documents.Erasure,
    "stock set": documents.StockCount,
    "users add": documents.User,
    "version": documents.Version,
    "webhooks add": responses.WebhookEndpoint,
    "webhooks delete": documents.WebhookEndpointDeletion,
    "webhooks deliveries": responses.EventDeliveryPage,
    "webhooks delivery": responses.DeliveryLog,
    "webhooks list": responses.WebhookEndpointList,
    "webhooks replay": responses.DeliveryLog,
    "webhooks replay-range": responses.DeliveryReplay,
    "webhooks rotate": responses.WebhookEndpoint,
    "webhooks secret": responses.EndpointSecret,
    "webhooks show": responses.WebhookEndpoint,
    "webhooks test": responses.DeliveryLog,
    "webhooks update": responses.WebhookEndpoint,
}
"""What each command prints; `orders watch` prints one in each line."""

RECORDS = {"bench burst", "bench compare", "bench mixed", "bench sagas", "bench watchers", "demo"}
"""They write what they measured."""

ON_PLANES = {"dev down", "dev env", "dev status", "dev up"}
"""`test_dev_lifecycle` has them."""


def check(name: str, result: Result, codes: tuple[int, ...] = (0,)) -> Any:
    assert result.exit_code in codes, result.output
    texts = result.stdout.splitlines() if name == "orders watch" else [result.stdout]
    for text in texts:
        TypeAdapter(ANSWERS[name]).validate_json(text)
    return json.loads(texts[-1])


def test_every_command_answers_programs() -> None:
    assert {" ".join(words) for words in COMMANDS} == ANSWERS.keys() | RECORDS
    for words in COMMANDS:
        command: Any = get_command(app)
        for word in words:
            command = command.get_command(None, word)
        assert "--json" in {option for parameter in command.params for option in parameter.opts}, words


def the_answer(answer: Any) -> Any:
    """A function that takes what a command would do, and answers at once."""

    def at_once(work: Coroutine[Any, Any, Any]) -> Any:
        work.close()
        return answer

    return at_once


LETTER = DeadLetter("Bounced", "no mailbox", "notifier", "orders", None, None, b"k", b"{}", [("ce_id", b"e")])
TRIED = Replayed(Verdict.TRIED, "it is due", {Channel.EMAIL: State.WAITING})


def test_what_a_plane_does_not_have(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(install, "run", the_answer("The certificate was renewed."))
    check("renew-certificate", RUNNER.invoke(app, ["renew-certificate", "--json"]))
    monkeypatch.setattr(repair, "run", the_answer("7.00 EUR noted as paid back by hand"))
    words = ["resolve", "o-1", "--reason", "closed", "--reference", "SEPA-1", "--json"]
    assert check("resolve", RUNNER.invoke(app, words))["reference"] == "SEPA-1"
    monkeypatch.setattr(dlq, "run", the_answer([(4, LETTER)]))
    assert check("dlq list", RUNNER.invoke(app, ["dlq", "list", "--json"]))[0]["eventId"] == "e"
    assert check("dlq show", RUNNER.invoke(app, ["dlq", "show", "4", "--json"]))["value"] == "{}"
    answers = iter([[(4, LETTER)], {4: TRIED}])
    monkeypatch.setattr(dlq, "run", lambda work: (work.close(), next(answers))[1])
    assert check("dlq replay", RUNNER.invoke(app, ["dlq", "replay", "4", "--json"]))[0]["verdict"] == "Tried"
    key = check("keys new", RUNNER.invoke(app, ["keys", "new", str(tmp_path), "--json"]))
    assert Path(key["file"]).exists()
    check("keys endpoint", RUNNER.invoke(app, ["keys", "endpoint", "--json"]))
    check("dev prepare", RUNNER.invoke(app, ["dev", "prepare", "--charts", "--look", "--json"]), (0, 1))
    check("version", RUNNER.invoke(app, ["version", "--json"]))


@pytest.mark.integration
async def test_on_a_plane(merchant: Merchant, tmp_path: Path) -> None:
    """As an administrator of everything, and as a customer of the gateway's own merchant."""
    await seed(merchant.pool)
    gateway = {"ORDERPLANE_GATEWAY": merchant.plane.url("gateway"), "XDG_CONFIG_HOME": str(tmp_path)}
    env = {**merchant.plane.env("admin"), **gateway}
    del env["ORDERPLANE_MERCHANT"]

    async def told(
        name: str, *words: str, codes: tuple[int, ...] = (0,), typed: str = "", env: Mapping[str, str] = env
    ) -> Any:
        line = [*name.split(), *words, "--json"]
        # In this process: to import everything once for each of them would take a minute.
        result = await asyncio.to_thread(RUNNER.invoke, app, line, input=typed, env=dict(env))
        return check(name, result, codes)

    assert (await told("version", "--gateway"))["api"]
    assert (await told("migrate"))["applied"] == 0
    # Its client reads KUBECONFIG when it is imported.
    installed = await orderplane("crds", "install", "--json", env=env)
    assert (
        "CustomResourceDefinition/orders.orderplane.dev"
        in documents.Installed.model_validate_json(installed.out).installed
    )
    client = await told("clients add", "warehouse")
    assert (await told("login", "--client-id", client["clientId"], typed=client["clientSecret"]))["id"]
    email = f"{merchant.name}@example.org"
    user = await told("users add", email, "--role", "customer", "--confirmed", typed=PASSWORD)
    assert (await told("login", email, typed=PASSWORD))["id"] == user["id"]
    service = env | {
        "ORDERPLANE_CLIENT_ID": client["clientId"],
        "ORDERPLANE_CLIENT_SECRET": client["clientSecret"],
    }
    for answer in (
        await told("prices set", "CHF", "-", typed=PRICE_RULE.read_text(), env=service),
        await told("prices show", "CHF"),
    ):
        assert (answer["currency"], answer["rule"]["taxIncluded"]) == ("CHF", True)
    assert [rule["currency"] for rule in (await told("prices list"))["items"]] == ["CHF", "EUR", "JPY"]
    quoted = await told("prices quote", "TEA-EARL-GREY-100=1", "--country", "NL")
    assert (quoted["amounts"]["total"], quoted["priceRule"]["version"]) == (1642, 1)
    assert (await told("prices delete", "CHF", env=service))["currency"] == "CHF"
    past = (await told("prices history", "CHF", env=service))["items"]
    assert past[0]["rule"] is None
    assert past[0]["actor"] == f"service:{client['clientId']}"
    made = await told("webhooks add", "http://127.0.0.1:9/", "--event", "order.created", env=service)
    endpoint = made["id"]
    placed = await told("orders create", "-", typed=json.dumps(ORDER))
    order = placed["id"]
    for name in ("orders get", "orders timeline"):
        assert (await told(name, order))["id"] == order
    assert [each["id"] for each in (await told("orders list"))["items"]] == [order]
    assert (await told("retry", order))["order"] == order
    assert (await told("orders watch", order))["phase"] == "Delivered"
    assert (await told("webhooks show", endpoint, env=service))["eventTypes"] == ["order.created"]
    (delivery,) = (await told("webhooks deliveries", endpoint, "--order", order, env=service))["items"]
    event = delivery["eventId"]
    assert (await told("webhooks delivery", endpoint, event, env=service))["type"] == "order.created"
    assert (await told("webhooks replay", endpoint, event, env=service))["eventId"] == event
    again = await told("webhooks replay-range", endpoint, "--since", "2020-01-01", env=service)
    assert again["replayed"] == 0
    assert (await told("webhooks rotate", endpoint, env=service))["previousSecretUntil"]
    assert (await told("webhooks secret", endpoint, env=service))["secret"].startswith("whsec_")
    assert (await told("webhooks test", endpoint, env=service))["type"] == "endpoint.test"
    assert (await told("webhooks update", endpoint, "--disable", env=service))["disabledReason"] == "ByShop"
    assert [each["id"] for each in (await told("webhooks list", env=service))["items"]] == [endpoint]
    assert (await told("webhooks delete", endpoint, env=service))["endpoint"] == endpoint
    await told("login", "--client-id", client["clientId"], typed=client["clientSecret"])
    refund = await told("orders refund", order, "--reason", "Goodwill", "--amount", "1.00")
    assert [each["id"] for each in (await told("orders refunds", order))["items"]] == [refund["id"]]
    await told("login", email, typed=PASSWORD)
    # The carrier is slow to answer there, so that there is time to change one's mind.
    slow = ORDER | {"address": ORDER["address"] | {"line1": "7 Fog Street"}}
    again = await told("orders create", "-", typed=json.dumps(slow))
    await told("orders cancel", again["id"])
    assert (await told("logout"))["gateway"] == gateway["ORDERPLANE_GATEWAY"]
    count = await told("stock set", "TEA-SENCHA-100", "7", "--merchant", merchant.name)
    assert (count["before"], count["after"], count["lost"]) == (1_000_000, 7, [])
    erased = await told("erase", "c-nobody", "--merchant", merchant.name)
    assert (erased["account"], erased["archived"], erased["live"]) == (False, 0, 0)
    await told("audit", codes=(0, 1))
    assert (await told("drain", "--look", codes=(0, 1)))["newOrders"] is None
    await told("notifications")
    await told("dlq list")


PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


def rows(heading: str) -> dict[str, str]:
    """The table under a heading of docs/cli.md."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.MULTILINE))


def test_the_exit_codes_are_documented() -> None:
    table = rows("Exit codes")
    assert {code: table[str(code)] for code in MEANINGS} == MEANINGS


def test_the_members_are_documented() -> None:
    table = {
        name: re.findall(r"`(\w+)`", members)
        for names, members in rows("For programs: `--json`").items()
        for name in re.findall(r"`([^`]+)`", names)
    }
    assert table.keys() == ANSWERS.keys()
    for name, answer in ANSWERS.items():
        if name in ("dev env", "dlq show") or not issubclass(answer, BaseModel):
            continue
        item = (
            get_args(answer.model_fields["root"].annotation)[0] if issubclass(answer, RootModel) else answer
        )
        assert table[name] == [field.alias for field in item.model_fields.values()], name
