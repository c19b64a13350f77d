"""A real Prometheus and Alertmanager beside a local plane, and what they answer."""

import asyncio
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from orderplane.dev.localplane.components import answers
from orderplane.dev.localplane.plane import Plane
from orderplane.dev.localplane.ports import free_port
from orderplane.dev.localplane.supervisor import Component
from orderplane.dev.localplane.tools import ToolMissing

Json = dict[str, Any]

SCRAPE_SECONDS = 1
PROCESSES = ("gateway", "console", "operator", "webhook", "relay", "notifier", "deliverer")
_TIMEOUT = aiohttp.ClientTimeout(total=30)


@dataclass(frozen=True, slots=True)
class Monitoring:
    """The addresses of both servers."""

    prometheus: str
    alertmanager: str

    async def query(self, expression: str) -> list[Json]:
        """The newest values."""
        return await self._ask("query", {"query": expression})

    async def query_range(self, expression: str, start: float, end: float, step: float) -> list[Json]:
        """The values from `start` to `end`, in Unix time."""
        parameters = {"query": expression, "start": str(start), "end": str(end), "step": str(step)}
        return await self._ask("query_range", parameters)

    async def alerts(self) -> list[Json]:
        """What Alertmanager would send: labels, and the state `active` or `suppressed`."""
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.get(f"{self.alertmanager}/api/v2/alerts") as answer,
        ):
            answer.raise_for_status()
            found: list[Json] = await answer.json()
        return found

    async def _ask(self, what: str, parameters: Mapping[str, str]) -> list[Json]:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.post(f"{self.prometheus}/api/v1/{what}", data=parameters) as answer,
        ):
            document = await answer.json()
        if document["status"] != "success":
            raise ValueError(f"Prometheus refuses {parameters['query']}: {document.get('error')}")
        found: list[Json] = document["data"]["result"]
        return found


async def start_monitoring(plane: Plane, rules: Path) -> Monitoring:
    """Start both beside a plane, which ends them with itself.

    Raises:
        ToolMissing: one of them is not installed.
        StartFailed: it does not start.
    """
    prometheus, alertmanager = _program("prometheus"), _program("prometheus-alertmanager", "alertmanager")
    folder = plane.state / "monitoring"
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    ports = free_port(), free_port()
    found = Monitoring(*(f"http://127.0.0.1:{port}" for port in ports))
    (folder / "alertmanager.yaml").write_text(json.dumps(_routes()))
    (folder / "prometheus.yaml").write_text(json.dumps(_configuration(plane, rules, ports[1])))
    await plane.supervisor.start(
        Component(
            "alertmanager",
            (
                alertmanager,
                f"--config.file={folder / 'alertmanager.yaml'}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{ports[1]}",
                "--cluster.listen-address=",
            ),
            answers(f"{found.alertmanager}/-/ready"),
        )
    )
    await plane.supervisor.start(
        Component(
            "prometheus",
            (
                prometheus,
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{ports[0]}",
                "--enable-feature=exemplar-storage",
            ),
            answers(f"{found.prometheus}/-/ready"),
        )
    )
    return found


def _configuration(plane: Plane, rules: Path, alertmanager_port: int) -> Json:
    return {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
        "rule_files": [str(rules)],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager_port}"]}]}]
        },
        "scrape_configs": [
            {
                "job_name": name,
                "static_configs": [{"targets": [plane.metrics_url(name).removeprefix("http://")]}],
            }
            for name in PROCESSES
        ],
    }


def _routes() -> Json:
    return {
        "route": {"receiver": "nobody", "group_wait": "1s", "group_interval": "1s"},
        "receivers": [{"name": "nobody"}],
    }


def _program(*names: str) -> str:
    for name in names:
        if found := shutil.which(name):
            return found
    raise ToolMissing(
        f"{names[0]} is not installed. On Debian: apt-get install prometheus prometheus-alertmanager"
    )
