"""Pictures of the dashboards, from a demo run that a real Prometheus records.

`python -m orderplane.dev.monitoring.pictures` writes docs/dashboards/ and docs/dashboards.md. Exit code 1
says that a panel shows nothing, and which: a dashboard may ask only for what is there.
"""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.audit.verdict import audit
from orderplane.cli.backends import open_backends
from orderplane.cli.console import console, fail, run
from orderplane.crds.meta import API_VERSION, Kind
from orderplane.dev.demo.command import TEMPO
from orderplane.dev.demo.mix import mix
from orderplane.dev.demo.products import COMMON, MERCHANT, seed
from orderplane.dev.demo.shop import Shop
from orderplane.dev.localplane.paths import project_root
from orderplane.dev.localplane.plane import Plane, PlaneSpec, remove
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.localplane.supervisor import StartFailed
from orderplane.dev.localplane.tools import ToolMissing, wheel_tool
from orderplane.dev.monitoring.dashboards import NAMES, Question, dashboard, questions
from orderplane.dev.monitoring.servers import SCRAPE_SECONDS, Monitoring, start_monitoring
from orderplane.dev.prometheus_rule import rules_file
from orderplane.ledgers.postgres.audit_runs import record_audit_run

Json = dict[str, Any]

ORDERS, PER_SECOND = 300, 4.0
QUIET_SECONDS = 15.0
"""Before the first order and after the last one."""

RATE_INTERVAL = f"{10 * SCRAPE_SECONDS}s"
PAGE, FOLDER = project_root() / "docs" / "dashboards.md", project_root() / "docs" / "dashboards"

_HEAD = """\
# Dashboards

`kustomize/components/monitoring/dashboards/` has four dashboards for Grafana. Import them, or let the sidecar
of Grafana's chart find them. They have one variable, the data source.

The pictures are not Grafana's, which was never started here. They show the data of each panel as a real
Prometheus answered it, for a demo run of {orders} orders at {rate:g} a second.
`python -m orderplane.dev.monitoring.pictures` draws them anew, and fails when a panel shows nothing.
"""


async def record(state: Path) -> list[Json]:
    """Run a plane with its monitoring through some minutes of orders; answers what the dashboards show."""
    async with Plane.start(state, PlaneSpec(env=TEMPO), ConsoleProgress(console)) as plane:
        monitoring = await start_monitoring(plane, rules_file())
        start = time.time()
        async with open_backends(plane.env("admin")) as backends:
            await seed(backends.pool)
            await asyncio.sleep(QUIET_SECONDS)
            shop = Shop(plane.url("gateway"), backends.api, backends.pool, rate=PER_SECOND)
            console.print(f"Placing {ORDERS} orders, {PER_SECOND:g} a second.")
            async with asyncio.TaskGroup() as group:
                group.create_task(shop.place_all(mix(ORDERS, 1)))
                group.create_task(_apply_by_hand(backends.api))
                await shop.watch(600, lambda: None)
            await record_audit_run(backends.pool, len((await audit(backends.snapshot)).violations))
        await asyncio.sleep(QUIET_SECONDS)
        return [await shown(monitoring, name, start, time.time()) for name in NAMES]


async def _apply_by_hand(api: ApiClient) -> None:
    """Reservations as `kubectl apply` makes them: they pass the webhook."""
    for number in range(10):
        expires_at = datetime.now(UTC) + timedelta(minutes=1)
        manifest = {
            "apiVersion": API_VERSION,
            "kind": "Reservation",
            "metadata": {"name": f"by-hand-{number}"},
            "spec": {
                "items": [{"sku": COMMON[0], "quantity": 1}],
                "expiresAt": expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
        }
        await api.create(Kind.RESERVATION, MERCHANT, manifest)
        await asyncio.sleep(2)


async def shown(monitoring: Monitoring, name: str, start: float, end: float) -> Json:
    """What one dashboard shows between two times."""
    panels = []
    for panel in dashboard(name)["panels"]:
        series = [
            each for question in questions(panel) for each in await _series(monitoring, question, start, end)
        ]
        unit = panel["fieldConfig"]["defaults"]["unit"]
        about = {key: panel[key] for key in ("title", "type")}
        panels.append({**about, **panel["gridPos"], "unit": unit, "series": series})
    return {"name": name, "panels": panels}


async def _series(monitoring: Monitoring, question: Question, start: float, end: float) -> list[Json]:
    expression = question.asked(rate_interval=RATE_INTERVAL, range_=f"{end - start:.0f}s")
    if question.is_instant:
        found = await monitoring.query(expression)
        rows = [(each["metric"], [each["value"]]) for each in found]
    else:
        found = await monitoring.query_range(expression, start, end, 2 * SCRAPE_SECONDS)
        rows = [(each["metric"], each["values"]) for each in found]
    return [
        {
            "name": question.name_of(labels),
            "seconds": [float(at) - start for at, _ in values],
            "values": [float(value) for _, value in values],
        }
        for labels, values in rows
    ]


def empty_panels(dashboards: Sequence[Json]) -> list[str]:
    """The panels that show nothing."""
    return [
        f"{each['name']}: {panel['title']}"
        for each in dashboards
        for panel in each["panels"]
        if not any(series["values"] for series in panel["series"])
    ]


def page() -> str:
    """docs/dashboards.md."""
    parts = [_HEAD.format(orders=ORDERS, rate=PER_SECOND)]
    for name in NAMES:
        document = dashboard(name)
        title = document["title"]
        parts.append(f"\n## {title}\n\n{document['description']}\n\n![{title}](dashboards/{name}.png)\n\n")
        parts.append("| panel | what it shows |\n|---|---|\n")
        parts += [f"| {panel['title']} | {panel['description']} |\n" for panel in document["panels"]]
    return "".join(parts)


async def _main() -> list[str]:
    state = Path(tempfile.mkdtemp(prefix="orderplane-pictures-"))
    try:
        dashboards = await record(state)
    finally:
        remove(state)
    python = (await wheel_tool("pictures", ConsoleProgress(console))) / "python"
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    drawer = project_root() / "dev" / "monitoring" / "draw.py"
    await asyncio.to_thread(
        subprocess.run,
        [python, drawer, FOLDER],
        input=json.dumps(dashboards).encode(),
        check=True,
        timeout=300,
    )
    PAGE.write_text(page(), encoding="utf-8")
    return empty_panels(dashboards)


if __name__ == "__main__":
    try:
        empty = run(_main())
    except (ToolMissing, StartFailed) as problem:
        fail(str(problem))
    for panel in empty:
        console.print(f"nothing to see in {panel}", markup=False)
    sys.exit(1 if empty else 0)
