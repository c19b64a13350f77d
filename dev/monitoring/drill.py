"""A drill: faults on a local plane make a real Prometheus and Alertmanager fire every alert, and resolve it.

Windows, waiting times and ages of the rules are shortened to a sixtieth: `promtool test rules` holds the real
ones.
"""

import asyncio
import logging
import re
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer

from orderplane.cli.backends import open_backends
from orderplane.cli.console import console, fail, run
from orderplane.dev.demo.command import TEMPO
from orderplane.dev.demo.products import seed
from orderplane.dev.localplane.plane import Plane, PlaneSpec, remove
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.localplane.supervisor import StartFailed
from orderplane.dev.localplane.tools import ToolMissing
from orderplane.dev.monitoring.faults import FAULTS, Fault, Site
from orderplane.dev.monitoring.servers import Monitoring, start_monitoring
from orderplane.dev.prometheus_rule import rules_file
from orderplane.ledgers.postgres.audit_runs import record_audit_run

FASTER = 60
"""So much shorter are windows and ages in the rules."""

FIRE_SECONDS, RESOLVE_SECONDS = 240.0, 540.0
"""How long an alert may take. A window of six hours is six minutes here, in which nothing may fail."""


def shortened(rules: str) -> str:
    """The rules with windows and ages of a sixtieth, ten and two seconds at least, that fire at once."""

    def shorter(found: re.Match[str]) -> str:
        seconds = int(found[2]) * {"s": 1, "m": 60, "h": 3_600, "d": 86_400}[found[3]]
        return f"{found[1]}{max(10, seconds // FASTER)}s"

    def younger(found: re.Match[str]) -> str:
        return f"{found[1]}{max(2, int(found[2]) // FASTER)}"

    faster = re.sub(r"(\[|offset )(\d+)([smhd])\b", shorter, rules)
    faster = re.sub(r"(_age_seconds[^>\n]*> )(\d+)", younger, faster)
    return re.sub(r"for: \w+", "for: 2s", faster)


async def drill(site: Site, monitoring: Monitoring, fault: Fault) -> list[str]:
    """One fault; answers what was wrong with its alerts."""
    alerts, began = FAULTS[fault], time.monotonic()
    async with fault(site):
        if silent := await _wait(monitoring, alerts, FIRE_SECONDS, firing=True):
            return [f"{alert} did not fire within {FIRE_SECONDS:g} s" for alert in silent]
        fired = time.monotonic()
    if firing := await _wait(monitoring, alerts, RESOLVE_SECONDS, firing=False):
        return [f"{alert} did not resolve within {RESOLVE_SECONDS:g} s" for alert in firing]
    took = f"fired after {fired - began:.0f} s, resolved after {time.monotonic() - fired:.0f} s"
    console.print(f"ok {fault.__name__}: {', '.join(alerts)} {took}", markup=False, soft_wrap=True)
    return []


async def _wait(
    monitoring: Monitoring, alerts: Collection[str], seconds: float, *, firing: bool
) -> list[str]:
    """Wait until all of them fire, or none does; answers those of which that did not come true."""
    deadline = time.monotonic() + seconds
    while True:
        names = {each["labels"]["alertname"] for each in await monitoring.alerts()}
        left = [alert for alert in alerts if (alert in names) is not firing]
        if not left or time.monotonic() > deadline:
            return left
        await asyncio.sleep(1)


async def _main(faults: Sequence[Fault]) -> list[str]:
    # Its pool logs a traceback a second while PostgreSQL is away.
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)
    state = Path(tempfile.mkdtemp(prefix="orderplane-drill-"))
    try:
        rules = state / "rules.yaml"
        await asyncio.to_thread(rules.write_text, shortened(rules_file().read_text(encoding="utf-8")))
        async with Plane.start(state, PlaneSpec(env=TEMPO), ConsoleProgress(console)) as plane:
            monitoring = await start_monitoring(plane, rules)
            async with open_backends(plane.env("admin")) as backends:
                await seed(backends.pool)
                await record_audit_run(backends.pool, 0)
                site = Site(plane, backends)
                problems = []
                for fault in faults:
                    for problem in await drill(site, monitoring, fault):
                        console.print(problem, style="red", markup=False)
                        problems.append(problem)
                return problems
    finally:
        await asyncio.to_thread(remove, state)


def main(
    alerts: Annotated[list[str] | None, typer.Argument(help="Which alerts; all of them without any.")] = None,
) -> None:
    """Inject each fault into a local plane, and see its alert fire and resolve; exit code 1 if one does not.

    Examples:

        python -m orderplane.dev.monitoring.drill

        python -m orderplane.dev.monitoring.drill OrderplaneOutboxOld OrderplaneBreakerOpen
    """
    every = {alert for alerts in FAULTS.values() for alert in alerts}
    chosen = set(alerts or every)
    if unknown := chosen - every:
        fail(f"No drill for {', '.join(sorted(unknown))}; there are {', '.join(sorted(every))}.", code=2)
    try:
        problems = run(_main([fault for fault, fired in FAULTS.items() if chosen & set(fired)]))
    except (ToolMissing, StartFailed) as problem:
        fail(str(problem))
    if problems:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
