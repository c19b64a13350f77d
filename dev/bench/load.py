"""Traffic on the gateway as k6 makes it, with every part behind it real."""

import asyncio
import contextlib
import json
import os
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from orderplane.audit.verdict import Verdict
from orderplane.dev.demo.products import MERCHANT, seed
from orderplane.dev.localplane.paths import project_root
from orderplane.dev.localplane.plane import Plane
from orderplane.dev.localplane.tools import ToolMissing, tail_of
from orderplane.gateway.identity.keyring import KeyRing
from orderplane.gateway.identity.tokens import TokenRules, issue
from orderplane.gateway.identity.user_store import EmailTaken, UserStore
from orderplane.gateway.principal import SCOPES_OF, Principal, Role
from orderplane.ledgers.postgres.session import Pool, session

PEOPLE = 500
END_SECONDS = 600.0
"""By then every order that was accepted has to have come to its end."""

GRACE_SECONDS = 60.0
_LOOK_SECONDS = 1.0
_IS_WAITING = "SELECT EXISTS (SELECT FROM history WHERE published_at IS NULL)"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One run of one of the scripts in load/.

    Args:
        share: Of new orders among all requests; the burst has nothing else.
    """

    script: str
    per_minute: int
    seconds: int
    share: float = 1.0


@dataclass(slots=True)
class Shown:
    """What a run has shown; times in milliseconds, but `*_seconds`.

    Args:
        k6: The metrics of k6's summary, by name.
        most_open: The most orders that were accepted and not at their end at one time.
        end_seconds: From the end of the traffic until the last accepted order was at its end; None where
            one never was.
        cpu_cores: How many cores each process kept busy while the traffic lasted.
    """

    wanted: Wanted
    k6: dict[str, dict[str, Any]]
    accepted: int
    ends: dict[str, int]
    saga_p50_seconds: float
    saga_p95_seconds: float
    most_open: int
    end_seconds: float | None
    cpu_cores: dict[str, float] = field(default_factory=dict)
    violations: tuple[str, ...] = ()

    def values(self, metric: str) -> dict[str, float]:
        """The figures of one metric of k6; empty where it never was."""
        found: dict[str, float] = self.k6.get(metric, {}).get("values", {})
        return found

    @property
    def is_kept(self) -> bool:
        """Every threshold of the script, every accepted order at its end, and a clean audit."""
        thresholds = (
            threshold["ok"]
            for metric in self.k6.values()
            for threshold in metric.get("thresholds", {}).values()
        )
        is_over = self.end_seconds is not None and self.end_seconds <= END_SECONDS
        return all(thresholds) and is_over and not self.violations

    def as_document(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "isKept": self.is_kept}


WARM_UP = Wanted("mixed", per_minute=1200, seconds=10, share=0.3)
"""What has only just been started prepares its statements and compiles its rules with the first requests."""


async def prepare(plane: Plane, pool: Pool) -> Path:
    """Stock the shelves and let the people in; answers the file that k6 reads them from."""
    await seed(pool)
    file = plane.state / "people.json"
    await write_users(plane, pool, PEOPLE, file)
    return file


async def measure(
    plane: Plane,
    k6: Path,
    wanted: Wanted,
    pool: Pool,
    audit: Callable[[], Awaitable[Verdict]],
    say: Callable[[str], None],
) -> Shown:
    """Run one script, wait for what it has set going, and audit it.

    Raises:
        ToolMissing: k6 ended with an error that is not a missed threshold.
    """
    people = await prepare(plane, pool)
    say("warming up")
    await _run(plane, k6, WARM_UP, people)
    await _all_ended(pool)
    began, cpu_before = time.time(), _cpu(plane)
    async with _most_open(pool) as most:
        say(f"{wanted.per_minute} requests a minute for {wanted.seconds} s")
        summary = await _run(plane, k6, wanted, people)
        took = time.time() - began
        cpu = {name: (seconds - cpu_before.get(name, 0.0)) / took for name, seconds in _cpu(plane).items()}
        say("waiting for the orders to come to their end")
        end_seconds = await _all_ended(pool)
    say("auditing")
    await _all_published(pool)
    verdict = await audit()
    ends, p50, p95 = await _sagas(pool, began)
    return Shown(
        wanted=wanted,
        k6=summary["metrics"],
        accepted=sum(ends.values()),
        ends=ends,
        saga_p50_seconds=p50,
        saga_p95_seconds=p95,
        most_open=most[0],
        end_seconds=end_seconds,
        cpu_cores=dict(sorted(cpu.items(), key=lambda item: -item[1])),
        violations=tuple(str(violation) for violation in verdict.violations),
    )


async def _run(plane: Plane, k6: Path, wanted: Wanted, people: Path) -> dict[str, Any]:
    summary, log = plane.state / "k6.json", plane.state / "logs" / "k6.log"
    summary.unlink(missing_ok=True)
    env = {
        **os.environ,
        "ORDERPLANE_GATEWAY": plane.url("gateway"),
        "ORDERPLANE_USERS": str(people),
        "LOAD_PER_MINUTE": str(wanted.per_minute),
        "LOAD_SECONDS": str(wanted.seconds),
        "LOAD_ORDER_SHARE": str(wanted.share),
        "LOAD_SUMMARY": str(summary),
        "K6_NO_USAGE_REPORT": "true",
        "GOMAXPROCS": "1",
    }
    script = project_root() / "dev" / "load" / f"{wanted.script}.js"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            str(k6), "run", "--quiet", str(script),
            env=env, stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip
        try:
            await asyncio.wait_for(process.wait(), wanted.seconds + GRACE_SECONDS)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if not summary.exists():
        raise ToolMissing(f"k6 ended with {process.returncode}; the end of its log:\n{tail_of(log)}")
    document: dict[str, Any] = json.loads(summary.read_text())
    return document


@contextlib.asynccontextmanager
async def _most_open(pool: Pool) -> AsyncIterator[list[int]]:
    most = [0]

    async def look() -> None:
        while True:
            most[0] = max(most[0], await _open(pool))
            await asyncio.sleep(_LOOK_SECONDS)

    looking = asyncio.create_task(look())
    try:
        yield most
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking


async def _open(pool: Pool) -> int:
    """Orders that were accepted and are not at their end."""
    async with session(pool) as connection:
        count: int = await connection.fetchval(
            "SELECT (SELECT count(*) FROM idempotency WHERE kind = 'Order' AND status = 202) "
            "- (SELECT count(*) FROM orders WHERE finished_at IS NOT NULL)"
        )
    return count


async def _all_ended(pool: Pool) -> float | None:
    began = time.monotonic()
    while (waited := time.monotonic() - began) <= END_SECONDS:
        if await _open(pool) <= 0:
            return waited
        await asyncio.sleep(_LOOK_SECONDS)
    return None


async def _all_published(pool: Pool) -> None:
    """The last events may still be on their way to the topics."""
    async with asyncio.timeout(GRACE_SECONDS), session(pool) as connection:
        while await connection.fetchval(_IS_WAITING):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(_LOOK_SECONDS)


async def _sagas(pool: Pool, began: float) -> tuple[dict[str, int], float, float]:
    async with session(pool) as connection:
        ends = await connection.fetch(
            "SELECT coalesce(outcome, state) AS ended, count(*) AS count FROM orders "
            "WHERE opened_at >= to_timestamp($1) GROUP BY 1 ORDER BY 2 DESC",
            began,
        )
        latency = await connection.fetchrow(
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY s) AS p50, "
            "percentile_cont(0.95) WITHIN GROUP (ORDER BY s) AS p95 FROM ("
            "  SELECT extract(epoch FROM h.at - i.created_at)::float8 AS s "
            "  FROM idempotency i JOIN history h ON h.merchant = i.merchant AND h.name = i.name "
            "  WHERE h.type = 'order.shipped' AND i.created_at >= to_timestamp($1)) AS each",
            began,
        )
    assert latency is not None, "an aggregate has one row"
    return {row["ended"]: row["count"] for row in ends}, latency["p50"] or 0.0, latency["p95"] or 0.0


def _cpu(plane: Plane) -> dict[str, float]:
    """CPU seconds of each process so far; k6 is the only child that ends meanwhile."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = {name: plane.supervisor.cpu_seconds(name) for name in plane.supervisor.names}
    return {**seconds, "k6": ended.ru_utime + ended.ru_stime}


STAFF_EVERY = 10
"""One in so many runs the shop."""


async def write_users(plane: Plane, pool: Pool, count: int, file: Path) -> None:
    """Make `count` accounts and write them down for k6: token, address and role of each.

    Nobody can log in as one of them: hashing hundreds of passwords would cost a minute and show nothing
    here. The tokens are the gateway's own, good for a quarter of an hour.
    """
    people = UserStore(pool)
    ring, rules = KeyRing(plane.signing_keys), TokenRules(plane.url("gateway"), "orderplane")
    written = []
    for number in range(count):
        role = Role.CUSTOMER if number % STAFF_EVERY else Role.MERCHANT
        caller = Principal(MERCHANT, f"u-load-{number}", role, SCOPES_OF[role])
        # A run before this one may have made them.
        with contextlib.suppress(EmailTaken):
            await people.add(
                MERCHANT, caller.name, email=f"load-{number}@example.test", password_hash="", role=role.value
            )
        token = issue(ring, rules, caller, client_id="load", now=int(time.time())).token
        address = f"198.18.{number // 250}.{number % 250 + 1}"
        written.append({"token": token, "address": address, "role": role.value})
    await asyncio.to_thread(file.write_text, json.dumps(written))
