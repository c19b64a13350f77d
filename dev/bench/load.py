"""Load tests: k6 sends requests to the gateway of a complete local plane."""

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

USERS = 500
END_SECONDS = 600.0
"""An accepted order that is not finished so long after the traffic counts as lost."""

GRACE_SECONDS = 60.0
_POLL_SECONDS = 1.0
_HAS_UNPUBLISHED = "SELECT EXISTS (SELECT FROM history WHERE published_at IS NULL)"


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """One run of one of the scripts in dev/load/.

    Args:
        share: New orders among all requests, 0 to 1. The script `burst` sends nothing else.
    """

    script: str
    per_minute: int
    seconds: int
    share: float = 1.0


@dataclass(slots=True)
class LoadResult:
    """Figures of one run. Times are in milliseconds, those named `*_seconds` in seconds.

    Args:
        k6: The metrics of k6's summary, by name.
        peak_open: The peak orders that were accepted and not at their end at one time.
        end_seconds: From the end of the traffic until the last accepted order was finished; None if one
            never was.
        cpu_cores: Cores that each process used while the traffic lasted.
    """

    spec: LoadSpec
    k6: dict[str, dict[str, Any]]
    accepted: int
    ends: dict[str, int]
    saga_p50_seconds: float
    saga_p95_seconds: float
    peak_open: int
    end_seconds: float | None
    cpu_cores: dict[str, float] = field(default_factory=dict)
    violations: tuple[str, ...] = ()

    def values(self, metric: str) -> dict[str, float]:
        """The values of one k6 metric; empty if k6 did not record it."""
        found: dict[str, float] = self.k6.get(metric, {}).get("values", {})
        return found

    @property
    def is_passed(self) -> bool:
        """All thresholds of the script hold, every accepted order is finished, and the audit is clean."""
        thresholds = (
            threshold["ok"]
            for metric in self.k6.values()
            for threshold in metric.get("thresholds", {}).values()
        )
        is_over = self.end_seconds is not None and self.end_seconds <= END_SECONDS
        return all(thresholds) and is_over and not self.violations

    def as_document(self) -> dict[str, Any]:
        """The figures as JSON."""
        return {**asdict(self), "isPassed": self.is_passed}


WARM_UP = LoadSpec("mixed", per_minute=1200, seconds=10, share=0.3)
"""The first requests prepare SQL statements and compile admission policies; they are not measured."""


async def prepare(plane: Plane, pool: Pool) -> Path:
    """Create products, stock and users; returns the file from which k6 reads the users."""
    await seed(pool)
    file = plane.state / "users.json"
    await write_users(plane, pool, USERS, file)
    return file


async def measure(
    plane: Plane,
    k6: Path,
    spec: LoadSpec,
    pool: Pool,
    audit: Callable[[], Awaitable[Verdict]],
    report: Callable[[str], None],
) -> LoadResult:
    """Run one script, wait until its orders are finished, and audit them.

    Raises:
        ToolMissing: k6 failed, and not because of a missed threshold.
    """
    users = await prepare(plane, pool)
    report("warming up")
    await _run(plane, k6, WARM_UP, users)
    await _wait_ended(pool)
    began, cpu_before = time.time(), _cpu(plane)
    async with _peak_open(pool) as peak:
        report(f"{spec.per_minute} requests a minute for {spec.seconds} s")
        summary = await _run(plane, k6, spec, users)
        took = time.time() - began
        cpu = {name: (seconds - cpu_before.get(name, 0.0)) / took for name, seconds in _cpu(plane).items()}
        report("waiting until the orders are finished")
        end_seconds = await _wait_ended(pool)
    report("auditing")
    await _wait_published(pool)
    verdict = await audit()
    ends, p50, p95 = await _sagas(pool, began)
    return LoadResult(
        spec=spec,
        k6=summary["metrics"],
        accepted=sum(ends.values()),
        ends=ends,
        saga_p50_seconds=p50,
        saga_p95_seconds=p95,
        peak_open=peak[0],
        end_seconds=end_seconds,
        cpu_cores=dict(sorted(cpu.items(), key=lambda item: -item[1])),
        violations=tuple(str(violation) for violation in verdict.violations),
    )


async def _run(plane: Plane, k6: Path, spec: LoadSpec, users: Path) -> dict[str, Any]:
    summary, log = plane.state / "k6.json", plane.state / "logs" / "k6.log"
    summary.unlink(missing_ok=True)
    env = {
        **os.environ,
        "ORDERPLANE_GATEWAY": plane.url("gateway"),
        "ORDERPLANE_USERS": str(users),
        "LOAD_PER_MINUTE": str(spec.per_minute),
        "LOAD_SECONDS": str(spec.seconds),
        "LOAD_ORDER_SHARE": str(spec.share),
        "LOAD_SUMMARY": str(summary),
        "K6_NO_USAGE_REPORT": "true",
        "GOMAXPROCS": "1",
    }
    script = project_root() / "dev" / "load" / f"{spec.script}.js"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            str(k6), "run", "--quiet", str(script),
            env=env, stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip
        try:
            await asyncio.wait_for(process.wait(), spec.seconds + GRACE_SECONDS)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if not summary.exists():
        raise ToolMissing(f"k6 ended with {process.returncode}; the end of its log:\n{tail_of(log)}")
    document: dict[str, Any] = json.loads(summary.read_text())
    return document


@contextlib.asynccontextmanager
async def _peak_open(pool: Pool) -> AsyncIterator[list[int]]:
    peak = [0]

    async def poll() -> None:
        while True:
            peak[0] = max(peak[0], await _open(pool))
            await asyncio.sleep(_POLL_SECONDS)

    polling = asyncio.create_task(poll())
    try:
        yield peak
    finally:
        polling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await polling


async def _open(pool: Pool) -> int:
    """Orders that were accepted and are not finished."""
    async with session(pool) as connection:
        count: int = await connection.fetchval(
            "SELECT (SELECT count(*) FROM idempotency WHERE kind = 'Order' AND status = 202) "
            "- (SELECT count(*) FROM orders WHERE finished_at IS NOT NULL)"
        )
    return count


async def _wait_ended(pool: Pool) -> float | None:
    began = time.monotonic()
    while (waited := time.monotonic() - began) <= END_SECONDS:
        if await _open(pool) <= 0:
            return waited
        await asyncio.sleep(_POLL_SECONDS)
    return None


async def _wait_published(pool: Pool) -> None:
    """The audit compares history and topics, so the outbox has to be empty first."""
    async with asyncio.timeout(GRACE_SECONDS), session(pool) as connection:
        while await connection.fetchval(_HAS_UNPUBLISHED):  # noqa: ASYNC110 - no notification exists
            await asyncio.sleep(_POLL_SECONDS)


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
    """CPU seconds of each process so far. RUSAGE_CHILDREN counts ended children: here that is k6 alone."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = {name: plane.supervisor.cpu_seconds(name) for name in plane.supervisor.names}
    return {**seconds, "k6": ended.ru_utime + ended.ru_stime}


STAFF_EVERY = 10
"""One user in so many works for the merchant, the others are customers."""


async def write_users(plane: Plane, pool: Pool, count: int, file: Path) -> None:
    """Create `count` accounts and write them to `file` for k6: token, IP address and role of each.

    They have no password: hashing hundreds takes a minute and is not what is measured. The tokens are signed
    with the gateway's key and are valid for 15 minutes.
    """
    users = UserStore(pool)
    ring, rules = KeyRing(plane.signing_keys), TokenRules(plane.url("gateway"), "orderplane")
    written = []
    for number in range(count):
        role = Role.CUSTOMER if number % STAFF_EVERY else Role.MERCHANT
        caller = Principal(MERCHANT, f"u-load-{number}", role, SCOPES_OF[role])
        # An earlier run on the same plane may have created them.
        with contextlib.suppress(EmailTaken):
            await users.add(
                MERCHANT, caller.name, email=f"load-{number}@example.test", password_hash="",
                role=role.value, is_confirmed=True,
            )  # fmt: skip
        token = issue(ring, rules, caller, client_id="load", now=int(time.time())).token
        address = f"198.18.{number // 250}.{number % 250 + 1}"
        written.append({"token": token, "address": address, "role": role.value})
    await asyncio.to_thread(file.write_text, json.dumps(written))
