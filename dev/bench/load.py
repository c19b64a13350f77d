"""Load tests: k6 sends requests to the gateways of a complete local plane."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.audit.verdict import Verdict
from orderplane.dev.bench.api_writes import count_writes
from orderplane.dev.bench.cpu import Usage, read, usage
from orderplane.dev.demo.products import MERCHANT, seed
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

KINDS = ("place", "order", "orders", "products", "search", "product", "stock")
"""What `mixed` sends: a new order, and reads of one order, a list of them, products, a search among them, one
product, and its stock."""

GRACE_SECONDS = 60.0
_POLL_SECONDS = 1.0
_SCRIPTS = Path(__file__).parents[1] / "load"
_HAS_UNPUBLISHED = "SELECT EXISTS (SELECT FROM history WHERE published_at IS NULL)"
_ORDERS = """
SELECT principal, max(name) AS name FROM idempotency
WHERE merchant = $1 AND kind = 'Order' AND status = 202 GROUP BY principal
"""


class LoadSpec(BaseModel):
    """One run of one of the scripts in dev/load/.

    Args:
        share: New orders among all requests, 0 to 1. The script `burst` sends nothing else.
        kind: The only one of KINDS that `mixed` sends; None for all of them.
    """

    model_config = ConfigDict(frozen=True)

    script: str
    per_minute: int
    seconds: int
    share: float = 1.0
    kind: str | None = None


class Answers(BaseModel):
    """What k6 has measured: its metrics, by name, in milliseconds where they are times."""

    model_config = ConfigDict(frozen=True)

    metrics: dict[str, dict[str, Any]]

    def values(self, metric: str) -> dict[str, float]:
        """The values of one metric; empty if k6 did not record it."""
        found: dict[str, float] = self.metrics.get(metric, {}).get("values", {})
        return found

    def of_kind(self, kind: str) -> dict[str, float]:
        """The durations of one of KINDS: count, avg, med, p(95) and others; empty if there was none."""
        found = self.values(f"http_req_duration{{kind:{kind}}}")
        return found if found.get("count") else {}

    @property
    def failed(self) -> float:
        """The share of requests that were refused or failed, 0 to 1."""
        return self.values("http_req_failed").get("rate", 0.0)

    @property
    def missed(self) -> list[str]:
        """The thresholds of the script that do not hold, such as `place p(95)<300`."""
        return [
            f"{name.removeprefix('http_req_duration{kind:').removesuffix('}')} {threshold}"
            for name, metric in sorted(self.metrics.items())
            for threshold, verdict in metric.get("thresholds", {}).items()
            if not verdict["ok"]
        ]


class LoadResult(BaseModel):
    """Figures of one run.

    Args:
        accepted: Orders that were accepted.
        ends: How they ended, and how many so.
        saga_p50_seconds, saga_p95_seconds: From the acceptance of an order to its label.
        peak_open: The most orders that were accepted and not at their end at one time.
        end_seconds: From the end of the traffic until the last accepted order was finished; None if one
            never was.
        usage: CPU while the traffic lasted.
        writes: API writes for each accepted order until all were finished, by verb and resource.
        violations: What the audit has found.
    """

    model_config = ConfigDict(frozen=True)

    spec: LoadSpec
    answers: Answers
    accepted: int
    ends: dict[str, int]
    saga_p50_seconds: float
    saga_p95_seconds: float
    peak_open: int
    end_seconds: float | None
    usage: Usage
    writes: dict[str, float] = {}
    violations: tuple[str, ...] = ()

    @property
    def is_passed(self) -> bool:
        """All thresholds of the script hold, every accepted order is finished, and the audit is clean."""
        return not self.answers.missed and self.end_seconds is not None and not self.violations


WARM_UP = LoadSpec(script="mixed", per_minute=1200, seconds=10, share=0.3)
"""The first requests prepare SQL statements and compile admission policies; they are not measured."""


@dataclass(frozen=True, slots=True)
class Generator:
    """k6, and the plane to which it sends requests.

    Args:
        pool: For the administrator: accounts, and the state of orders.
        api: For the administrator: the API server's own metrics.
    """

    plane: Plane
    k6: Path
    pool: Pool
    api: ApiClient

    async def prepare(self) -> None:
        """Create products, stock and users, and warm everything up."""
        await seed(self.pool)
        await add_users(self.pool)
        await self.send(WARM_UP)
        await self.wait_ended()

    async def send(self, spec: LoadSpec) -> tuple[Answers, Usage]:
        """Run one script.

        Raises:
            ToolMissing: k6 failed, and not because of a missed threshold.
        """
        plane, users = self.plane, self.plane.state / "users.json"
        summary, log = plane.state / "k6.json", plane.state / "logs" / "k6.log"
        await write_users(plane, self.pool, users)
        summary.unlink(missing_ok=True)
        env = {
            **os.environ,
            "ORDERPLANE_GATEWAY": plane.url("gateway"),
            "ORDERPLANE_USERS": str(users),
            "LOAD_PER_MINUTE": str(spec.per_minute),
            "LOAD_SECONDS": str(spec.seconds),
            "LOAD_ORDER_SHARE": str(spec.share),
            "LOAD_KIND": spec.kind or "",
            "LOAD_SUMMARY": str(summary),
            "K6_NO_USAGE_REPORT": "true",
            "GOMAXPROCS": "1",
        }
        before = read(plane)
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                str(self.k6), "run", "--quiet", str(_SCRIPTS / f"{spec.script}.js"),
                env=env, stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip
            try:
                await asyncio.wait_for(process.wait(), spec.seconds + GRACE_SECONDS)
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        used = usage(before, read(plane))
        if not summary.exists():
            raise ToolMissing(f"k6 ended with {process.returncode}; the end of its log:\n{tail_of(log)}")
        return Answers(metrics=json.loads(summary.read_text())["metrics"]), used

    async def wait_ended(self, at_most: float = END_SECONDS) -> float | None:
        """Wait until every accepted order is finished; the seconds that it took, None if not all are."""
        began = time.monotonic()
        while (waited := time.monotonic() - began) <= at_most:
            if await _open(self.pool) <= 0:
                return waited
            await asyncio.sleep(_POLL_SECONDS)
        return None

    async def wait_published(self) -> None:
        """Wait until every event is in Kafka."""
        async with asyncio.timeout(GRACE_SECONDS), session(self.pool) as connection:
            while await connection.fetchval(_HAS_UNPUBLISHED):  # noqa: ASYNC110 - no notification exists
                await asyncio.sleep(_POLL_SECONDS)


async def measure(
    generator: Generator,
    spec: LoadSpec,
    audit: Callable[[], Awaitable[Verdict]],
    report: Callable[[str], None],
) -> LoadResult:
    """Run one script, wait until its orders are finished, and audit them.

    Raises:
        ToolMissing: k6 failed, and not because of a missed threshold.
    """
    began, written = time.time(), await count_writes(generator.api)
    async with _peak_open(generator.pool) as peak:
        report(f"{spec.per_minute} requests a minute for {spec.seconds} s")
        answers, used = await generator.send(spec)
        report("waiting until the orders are finished")
        end_seconds = await generator.wait_ended()
    report("auditing")
    # The audit compares history and topics, so the outbox has to be empty first.
    await generator.wait_published()
    writes = await count_writes(generator.api)
    writes.subtract(written)
    verdict = await audit()
    ends, p50, p95 = await _sagas(generator.pool, began)
    accepted = sum(ends.values())
    return LoadResult(
        spec=spec,
        answers=answers,
        accepted=accepted,
        ends=ends,
        saga_p50_seconds=p50,
        saga_p95_seconds=p95,
        peak_open=peak[0],
        end_seconds=end_seconds,
        usage=used,
        writes={name: count / accepted for name, count in sorted(writes.items()) if count and accepted},
        violations=tuple(str(violation) for violation in verdict.violations),
    )


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


STAFF_EVERY = 10
"""One user in so many works for the merchant, the others are customers."""


def _users() -> list[tuple[str, Role, str]]:
    """The id, role and IP address of each user."""
    return [
        (
            f"u-load-{number}",
            Role.CUSTOMER if number % STAFF_EVERY else Role.MERCHANT,
            f"198.18.{number // 250}.{number % 250 + 1}",
        )
        for number in range(USERS)
    ]


async def add_users(pool: Pool) -> None:
    """Create the accounts. They have no password: hashing hundreds takes a minute and is not measured."""
    users = UserStore(pool)
    for name, role, _ in _users():
        # An earlier run on the same plane may have created them.
        with contextlib.suppress(EmailTaken):
            await users.add(
                MERCHANT, name, email=f"{name.removeprefix('u-')}@example.test", password_hash="",
                role=role.value, is_confirmed=True,
            )  # fmt: skip


async def write_users(plane: Plane, pool: Pool, file: Path) -> None:
    """Write a token, the IP address, the role and the last order of each user to `file` for k6.

    The tokens are signed with the gateway's key, and valid for 15 minutes.
    """
    ring, rules = KeyRing(plane.signing_keys), TokenRules(plane.url("gateway"), "orderplane")
    async with session(pool) as connection:
        rows = await connection.fetch(_ORDERS, MERCHANT)
    orders, written = {row["principal"]: row["name"] for row in rows}, []
    for name, role, address in _users():
        caller = Principal(MERCHANT, name, role, SCOPES_OF[role])
        token = issue(ring, rules, caller, client_id="load", now=int(time.time())).token
        written.append({"token": token, "address": address, "role": role.value, "order": orders.get(name)})
    await asyncio.to_thread(file.write_text, json.dumps(written))
