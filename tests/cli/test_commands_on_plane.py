"""The commands on a complete plane."""

import asyncio
import json
import os
import pty
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orderplane import __version__
from orderplane.crds.defaults import reservation_manifest
from orderplane.crds.meta import Kind
from orderplane.crds.order import Item
from orderplane.ledgers.postgres.inventory import MoreWouldLose, PostgresInventory, recount
from orderplane.ledgers.postgres.session import session

from ..support.plane import Merchant
from .terminal import orderplane

pytestmark = pytest.mark.integration

TEA = "TEA-EARL-GREY-100"


async def test_stock_set_tells_before_and_after(merchant: Merchant) -> None:
    env = merchant.plane.env("admin")
    answer = await orderplane("stock", "set", TEA, "7", "--merchant", merchant.name, env=env)
    assert (answer.code, answer.out) == (0, f"{TEA}: 1000000 before, 7 now.\n"), answer.err
    assert await on_hand(merchant, TEA) == 7


async def on_hand(merchant: Merchant, sku: str) -> int | None:
    async with session(merchant.pool) as connection:
        query = "SELECT on_hand FROM stock WHERE merchant = $1 AND sku = $2"
        return await connection.fetchval(query, merchant.name, sku)


async def test_stock_of_a_product_that_does_not_exist_is_refused(merchant: Merchant) -> None:
    env = merchant.plane.env("admin")
    answer = await orderplane("stock", "set", "TEE", "7", "--merchant", merchant.name, env=env)
    said = f"{merchant.name} has no product TEE. Nothing was changed.\n"
    assert (answer.code, answer.out, answer.err) == (4, "", said)
    assert await on_hand(merchant, "TEE") is None


async def reserve(merchant: Merchant, name: str) -> None:
    """Two pieces of TEA, which are held when this returns."""
    expires = datetime.now(UTC) + timedelta(minutes=10)
    items = [Item(sku=TEA, quantity=2)]
    reservation = reservation_manifest(merchant.name, name, items, expires, None, "0")
    await merchant.api.create(Kind.RESERVATION, merchant.name, reservation)
    inventory = PostgresInventory(merchant.pool)
    async with asyncio.timeout(30):
        while not await inventory.losers(merchant.name, TEA, 1):  # noqa: ASYNC110 - the ledger calls nobody
            await asyncio.sleep(0.05)


async def test_no_order_loses_its_stock_without_a_yes(merchant: Merchant) -> None:
    env = merchant.plane.env("admin")
    wanted = ("stock", "set", TEA, "1", "--merchant", merchant.name)
    await reserve(merchant, "fair")
    asked = await orderplane(*wanted, env=env)
    assert (asked.code, asked.out) == (2, "")
    assert asked.err == (
        "would lose its stock: reservation fair\nNothing was changed. To have them undone, give --yes.\n"
    )
    assert await on_hand(merchant, TEA) == 1_000_000
    done = await orderplane(*wanted, "--yes", env=env)
    assert (done.code, done.out) == (0, f"{TEA}: 1000000 before, 1 now.\nlost its stock: fair\n"), done.err


async def test_a_recount_takes_from_nobody_who_was_not_shown(merchant: Merchant) -> None:
    await reserve(merchant, "late")
    with pytest.raises(MoreWouldLose):
        await recount(merchant.pool, merchant.name, TEA, 1, note="count", may_lose=["other"])
    assert await on_hand(merchant, TEA) == 1_000_000


async def test_version_asks_the_gateway_without_a_login(merchant: Merchant, tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path), "ORDERPLANE_GATEWAY": merchant.plane.url("gateway")}
    answer = await orderplane("version", "--gateway", env=env)
    assert answer.code == 0, answer.err
    assert answer.out == f"{__version__}\nv1alpha1 at {merchant.plane.url('gateway')}\n"


async def test_migrate_again_does_nothing(merchant: Merchant) -> None:
    answer = await orderplane("migrate", env=merchant.plane.env("admin"))
    assert (answer.code, answer.out) == (0, "Up to date.\n"), answer.err


async def test_crds_install_again_does_no_harm(merchant: Merchant) -> None:
    answer = await orderplane("crds", "install", env=merchant.plane.env("admin"))
    assert answer.code == 0, answer.err
    assert "orders.orderplane.dev" in answer.out
    assert (await merchant.api.list_page(Kind.ORDER, merchant.name)).items == []


async def test_retry_and_resolve_say_what_they_did_not_find(merchant: Merchant) -> None:
    env = merchant.plane.env("admin")
    retried = await orderplane("retry", "o-none", "-n", merchant.name, env=env)
    assert (retried.code, retried.err) == (4, 'orders.orderplane.dev "o-none" not found\n')
    resolved = await orderplane(
        "resolve", "o-none", "-n", merchant.name, "--reason", "closed", "--reference", "SEPA-1", env=env
    )
    assert resolved.code == 1
    assert "o-none" in resolved.err
    assert "Traceback" not in resolved.err


async def test_a_dead_database_is_one_clear_line(merchant: Merchant) -> None:
    env = {**merchant.plane.env("admin"), "ORDERPLANE_POSTGRES_DSN": "postgresql://nobody@127.0.0.1:1/none"}
    answer = await orderplane("stock", "set", TEA, "7", env=env)
    assert answer.code == 5
    assert answer.err.startswith("Nothing answers: Connect call failed")
    assert answer.err.count("\n") == 1, answer.err


async def test_a_pipe_gets_no_colours() -> None:
    answer = await orderplane("audit")
    assert answer.code == 2
    assert "\x1b[" not in answer.out + answer.err


@pytest.mark.parametrize("is_colourless", [True, False])
def test_terminals_get_colours_unless_they_refuse(is_colourless: bool) -> None:
    child, terminal = pty.fork()
    if child == 0:
        wish = {"NO_COLOR": "1"} if is_colourless else {"TERM": "xterm-256color"}
        env = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", **wish}
        os.execve(sys.executable, [sys.executable, "-m", "orderplane.cli.main", "audit"], env)  # noqa: S606
    shown = b""
    try:
        while chunk := os.read(terminal, 4096):
            shown += chunk
    except OSError:
        pass  # Linux says so when the other side is closed.
    finally:
        os.close(terminal)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 2
    assert bool(re.search(rb"\x1b\[[0-9;]*31m", shown)) is not is_colourless


async def test_audit_json_is_json_and_nothing_else(merchant: Merchant) -> None:
    answer = await orderplane("audit", "--json", env=merchant.plane.env("audit"))
    assert set(json.loads(answer.out)) == {"clean", "violations", "notices", "open", "counts"}
    assert answer.code in (0, 1)
