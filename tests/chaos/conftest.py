"""A plane of its own for each test that breaks things, and what every such test asks at the end."""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from orderplane.audit.verdict import Verdict, audit
from orderplane.cli.backends import open_backends
from orderplane.dev.demo.command import TEMPO
from orderplane.dev.demo.shop import Placed
from orderplane.dev.demo.summary import describe
from orderplane.dev.localplane.components import SANDBOXES
from orderplane.dev.localplane.plane import Plane, PlaneSpec, remove
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.ledgers.postgres.session import session

_OF_THE_END = "infinite_watch"
"""Kopf's watch stream, when the loop closes it at the end of a process: nothing comes of it."""


@pytest.fixture
def chaos_seed(capsys: pytest.CaptureFixture[str]) -> int:
    """`CHAOS_SEED`, or another each time; said at once, so that a hung run can be repeated too."""
    number = int(os.environ.get("CHAOS_SEED") or secrets.randbelow(1_000_000))
    with capsys.disabled():
        # Not to stdout, which is not shown of a test that runs beside others.
        print(f"\nCHAOS_SEED={number}", file=sys.stderr, flush=True)  # noqa: T201
    return number


@asynccontextmanager
async def chaos_plane(state: Path) -> AsyncIterator[Plane]:
    """Everything, at the demo's tempo."""
    try:
        async with Plane.start(state, PlaneSpec(env=TEMPO), ConsoleProgress()) as started:
            yield started
    finally:
        remove(state)


@pytest.fixture
async def own_plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    """See `chaos_plane`."""
    async with chaos_plane(tmp_path_factory.mktemp("chaos")) as plane:
        yield plane


@contextmanager
def frozen(plane: Plane, name: str) -> Iterator[None]:
    """A component with all its processes stands still; it may be killed meanwhile."""
    pid = plane.supervisor.pid(name)
    assert pid is not None
    first = psutil.Process(pid)
    processes = [first, *first.children(recursive=True)]
    for each in processes:
        each.suspend()
    try:
        yield
    finally:
        for each in reversed(processes):
            with suppress(psutil.NoSuchProcess):
                each.resume()


async def verdict_of(plane: Plane) -> Verdict:
    """The audit, once the outbox is empty."""
    async with open_backends(plane.env("admin")) as backends:
        async with asyncio.timeout(60):
            while True:
                async with session(backends.pool) as connection:
                    unsaid = await connection.fetchval(
                        "SELECT count(*) FROM history WHERE published_at IS NULL"
                    )
                if not unsaid:
                    break
                await asyncio.sleep(0.3)
        return await audit(backends.snapshot)


def alarms_of(plane: Plane) -> list[str]:
    """Failures that nobody foresaw, as the product's processes logged them: each of them is a defect.

    The sandboxes are left out: aiohttp's server now and then logs a connection that its client's death tore.
    """
    found = []
    for name in set(plane.supervisor.names) - SANDBOXES:
        with plane.supervisor.log_of(name).open(errors="replace") as lines:
            found += [
                f"{name}: {line[:300]} ... {line.strip()[-1200:]}"
                for line in lines
                if '"exception"' in line and '"level":"error"' in line and _OF_THE_END not in line
            ]
    return found


def story_of(placed: Sequence[Placed]) -> str:
    """What became of these, with their conditions."""
    return "\n".join(f"{describe(p)} {p.order.get('status', {}).get('conditions')}" for p in placed)
