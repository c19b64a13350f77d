"""`orderplane dev` as a user runs it."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from orderplane.dev.command import Down, Environment, Status, Up

from .terminal import orderplane

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[Path]:
    yield tmp_path / "with a space"
    await orderplane("dev", "down", "--state-dir", str(tmp_path / "with a space"))


def pids(state: Path) -> dict[str, int]:
    document = json.loads((state / "state.json").read_text())
    return {name: component["pid"] for name, component in document["components"].items()}


async def until_ended(processes: list[psutil.Process]) -> None:
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, timeout=30)
    assert [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []


async def test_up_status_env_down(state: Path) -> None:
    there = ("--state-dir", str(state))
    up = await orderplane("dev", "up", "--no-kafka", *there, "--json", seconds=180)
    assert up.code == 0, up.err
    accounts = Up.model_validate_json(up.out).accounts
    assert accounts is not None
    again = await orderplane("dev", "up", *there)
    assert (again.code, again.out) == (0, "It is up already.\n")

    status = await orderplane("dev", "status", "--json", *there)
    Status.model_validate_json(status.out)
    document = json.loads(status.out)
    assert (status.code, document["up"]) == (0, True)
    assert {"etcd", "kube-apiserver", "operator", "relay", "gateway", "webhook"} <= set(
        document["components"]
    )
    assert all(document["components"].values())

    env = await orderplane("dev", "env", *there)
    assert env.code == 0
    as_json = await orderplane("dev", "env", "--json", *there)
    assert "ORDERPLANE_GATEWAY" in Environment.model_validate_json(as_json.out).root
    # The shop sells, to its administrator and to its own service.
    script = f"""{env.out}
        kubectl get orders
        echo {accounts.admin_password} | orderplane login {accounts.admin}
        export ORDERPLANE_CLIENT_ID={accounts.client_id} ORDERPLANE_CLIENT_SECRET={accounts.client_secret}
        orderplane orders list
    """
    shell = await asyncio.to_thread(
        subprocess.run, ["bash", "-euc", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert shell.returncode == 0, shell.stderr

    processes = [psutil.Process(pid) for pid in pids(state).values()]
    down = await orderplane("dev", "down", "--json", *there)
    assert (down.code, Down.model_validate_json(down.out)) == (0, Down(stopped=True))
    assert not state.exists()
    await until_ended(processes)
    assert (await orderplane("dev", "status", *there)).code == 1


async def test_down_cleans_up_after_a_host_that_was_killed(state: Path) -> None:
    there = ("--state-dir", str(state))
    up = await orderplane("dev", "up", "--no-kafka", "--bare", *there, seconds=180)
    assert up.code == 0, up.err
    assert "kubectl get orders -w" in up.out
    processes = [psutil.Process(pid) for pid in pids(state).values()]
    host = psutil.Process(json.loads((state / "state.json").read_text())["host"]["pid"])
    host.kill()
    await until_ended([host])
    assert (await orderplane("dev", "status", *there)).code == 1
    down = await orderplane("dev", "down", *there)
    assert (down.code, down.out) == (0, "Everything is down.\n"), down.err
    await until_ended(processes)
    # As if it had never been: it can be started again.
    assert not state.exists()


async def test_down_ends_one_that_still_starts(state: Path) -> None:
    there = ("--state-dir", str(state))
    starting = asyncio.create_task(orderplane("dev", "up", "--no-kafka", *there, seconds=180))
    async with asyncio.timeout(60):
        while not (state / "state.json").exists():  # noqa: ASYNC110 - there is no notification
            await asyncio.sleep(0.02)
    host = psutil.Process(json.loads((state / "state.json").read_text())["host"]["pid"])
    family = [host, *host.children(recursive=True)]
    down = await orderplane("dev", "down", *there)
    assert (down.code, down.out) == (0, "Everything is down.\n"), down.err
    up = await starting
    assert up.code == 1
    await until_ended(family)
    assert not state.exists()
