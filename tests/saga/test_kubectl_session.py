"""What a person types, with the real kubectl, as a merchant who is no administrator."""

import asyncio
import json
from pathlib import Path

import pytest
import yaml

from orderplane.dev.demo.products import SCARCE
from orderplane.dev.localplane.paths import project_root

from .conftest import MUG, OPENING, Desk, phase_is

pytestmark = pytest.mark.integration

EXAMPLE = project_root() / "docs" / "examples" / "order.yaml"


async def typed(desk: Desk, *arguments: str) -> str:
    return await desk.kubectl(*arguments, identity="merchant")


async def test_apply_twice_wait_and_get(desk: Desk) -> None:
    name = yaml.safe_load(EXAMPLE.read_text())["metadata"]["name"]
    assert await typed(desk, "apply", "-f", str(EXAMPLE)) == f"order.orderplane.dev/{name} created\n"
    waited = await typed(desk, "wait", "--for=condition=Delivered", "--timeout=60s", f"order/{name}")
    assert waited == f"order.orderplane.dev/{name} condition met\n"
    # Its status, finalizer and labels are ours; the file is still all that a person ever said.
    assert await typed(desk, "apply", "-f", str(EXAMPLE)) == f"order.orderplane.dev/{name} unchanged\n"
    table = (await typed(desk, "get", "orders")).splitlines()
    assert "PHASE" in table[0]
    assert table[1].split()[0] == name
    cents = await typed(desk, "get", "ord", name, "-o", "jsonpath={.spec.quote.amounts.total}")
    assert table[1].split()[1:4] == ["Delivered", f"{int(cents) / 100:.2f}", "EUR"]
    short = await typed(desk, "get", "ord", name, "-o", "jsonpath={.status.phase}")
    assert short == "Delivered"
    everything = await typed(desk, "get", "orderplane", "-o", "name")
    assert {line.split(".")[0] for line in everything.split()} == {
        "order", "reservation", "payment", "shipment",
    }  # fmt: skip


async def test_failed_orders_are_found_by_their_phase_and_tell_their_story(desk: Desk) -> None:
    poor = await desk.place([(SCARCE, 4)])
    declined = await desk.place([(MUG, 1)], method="pm_card_chargeDeclined")
    good = await desk.place([(MUG, 1)])
    await asyncio.gather(
        desk.until(poor, phase_is("Failed")), desk.until(declined, phase_is("Failed")),
        desk.until(good, phase_is("Delivered")),
    )  # fmt: skip
    failed = await typed(desk, "get", "orders", "--field-selector", "status.phase=Failed", "-o", "name")
    names = {poor["metadata"]["name"], declined["metadata"]["name"]}
    assert set(failed.split()) == {f"order.orderplane.dev/{name}" for name in names}
    story = await typed(desk, "describe", "order", declined["metadata"]["name"])
    _, events = story.split("Events:")
    reasons = [line.split()[1] for line in events.splitlines()[3:] if line.strip()]
    undone = {"CancelPaymentDone", "ReleaseStockDone"}
    told = ["Undone" if reason in undone else reason for reason in reasons]
    # What is told at once is one event, so not each step has its own. But the story is in order.
    assert list(dict.fromkeys(told)) == [
        step for step in ("Reserved", "Compensating", "Undone", "Failed") if step in told
    ]
    assert told[-1] == "Failed"
    for step in ("CancelPayment is done", "ReleaseStock is done"):
        assert events.count(step) == 1
    assert "CardDeclined" in events
    story = await typed(desk, "describe", "order", good["metadata"]["name"])
    _, events = story.split("Events:")
    reasons = [line.split()[1] for line in events.splitlines()[3:] if line.strip()]
    # Steps that are told at once are one event, for the last of them.
    assert reasons == [step for step in ("Reserved", "Paid", "Shipped", "Delivered") if step in reasons]
    assert reasons[-1] == "Delivered"
    for step in ("Every item is kept", "The whole amount was taken", "carries it as"):
        assert events.count(step) == 1


async def test_a_running_order_is_undone_before_its_deletion_ends(desk: Desk, tmp_path: Path) -> None:
    order = await desk.place([(MUG, 2)], line1="7 Fog Street")
    await desk.until(order, phase_is("Paid"))
    name = order["metadata"]["name"]
    watched = tmp_path / "watched"
    with watched.open("wb") as out:
        watch = await asyncio.create_subprocess_exec(
            str(desk.plane.kubectl), "--kubeconfig", str(desk.plane.kubeconfig("merchant")), "-n", desk.name,
            "get", "orders", "-w", "-o", "json", stdin=asyncio.subprocess.DEVNULL, stdout=out,
        )  # fmt: skip
    try:
        assert f'"{name}" deleted' in await typed(desk, "delete", "order", name)
    finally:
        watch.terminate()
        await watch.wait()
    # kubectl came back only when it was gone, and it was gone only when it was undone.
    assert await desk.stock(MUG) == (OPENING, 0)
    (intent,) = await desk.intents(order)
    assert sum(refund.amount for refund in await desk.refunds(order)) == intent.received > 0
    documents = objects_in(watched.read_text())
    assert "Compensating" in {d["status"]["phase"] for d in documents}


def objects_in(text: str) -> list[dict]:
    """kubectl writes one JSON document after the other; the last may be torn."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while (start := text.find("{", at)) >= 0:
        try:
            document, at = decoder.raw_decode(text, start)
        except json.JSONDecodeError:
            break
        found.append(document)
    return found
