"""`scripts/node-test upgrade`: the chart of an earlier commit is replaced by this one's under load.

What a shop does that installs with Helm: install, upgrade, roll back, upgrade again, `helm test`, uninstall.
It runs on a node where nothing was installed yet, so that the upgrade finds the older database.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from orderplane.cli.backends import open_backends
from orderplane.cli.console import console, fail, run
from orderplane.dev.localplane.paths import project_root
from orderplane.dev.localplane.progress import ConsoleProgress, Progress, Step
from orderplane.dev.localplane.tools import find_chart_tool
from orderplane.dev.node.cluster import (
    COMPONENTS,
    GATEWAY,
    NAMESPACE,
    Cluster,
    NotReady,
    is_rolled_out,
    kubectl,
)
from orderplane.dev.node.images import TAG
from orderplane.dev.node.load import SteadyLoad
from orderplane.dev.node.trials import OVERLAY, Figures, Trial
from orderplane.ledgers.postgres.session import session

Json = dict[str, Any]

RELEASE = "orderplane"
_STEP_SECONDS = 300.0
_WAIT = ("--namespace", NAMESPACE, "--wait", f"--timeout={_STEP_SECONDS:.0f}s")
_FIXED = frozenset({"ORDERPLANE_METRICS_HOST", "ORDERPLANE_METRICS_PORT", "ORDERPLANE_SECRETS_DIR"})
"""What the chart sets itself, and refuses in its values."""


def surroundings(documents: Sequence[Json], tag: str) -> list[Json]:
    """What the product needs from others, of all that the overlay has, and what the demo itself needs.

    Args:
        tag: Of the image of its Jobs, which fill the database as it is at first.
    """
    return [
        _with_tag(each, tag) if each["kind"] == "Job" else each
        for each in documents
        if each["metadata"].get("labels", {}).get("app.kubernetes.io/name") == "orderplane-demo"
        # Every pod of the overlay has its class.
        or each["kind"] in ("Namespace", "PriorityClass")
        # The chart has its certificate made in the cluster.
        or (each["kind"] == "Secret" and each["metadata"]["name"] != "orderplane-webhook-tls")
    ]


def _with_tag(job: Json, tag: str) -> Json:
    copy = deepcopy(job)
    for container in copy["spec"]["template"]["spec"]["containers"]:
        container["image"] = f"{container['image'].rpartition(':')[0]}:{tag}"
    return copy


def values(documents: Sequence[Json], tag: str) -> Json:
    """The chart's values for the sizes and addresses of the overlay."""
    [settings] = (
        each["data"]
        for each in documents
        if (each["kind"], each["metadata"]["name"]) == ("ConfigMap", "orderplane")
    )
    return {
        "image": {"tag": tag},
        "settings": {name: value for name, value in settings.items() if name not in _FIXED},
        "gateway": {"replicas": 1},
        "webhook": {"replicas": 1},
        "notifier": {"replicas": 1},
        "deliverer": {"replicas": 1},
    }


class Helm:
    """The release on the node."""

    def __init__(self, program: Path) -> None:
        self._program = program

    async def ask(self, *words: str, values: Mapping[str, Any] | None = None) -> tuple[bool, str]:
        """Run Helm; answers whether it succeeded, and what it said."""
        command = [str(self._program), *words, *(("--values", "-") if values else ())]
        done = await asyncio.to_thread(
            subprocess.run, command, input=json.dumps(values) if values else "", capture_output=True,
            text=True, timeout=_STEP_SECONDS + 60, check=False,
        )  # fmt: skip
        return done.returncode == 0, (done.stdout + done.stderr).strip()

    async def do(self, *words: str, values: Mapping[str, Any] | None = None) -> None:
        """Run Helm.

        Raises:
            NotReady: it failed; the message says why.
        """
        is_done, said = await self.ask(*words, values=values)
        if not is_done:
            raise NotReady(f"helm {words[0]} failed: {said}")


class Upgrade:
    """One release, from its first installation to its end.

    Args:
        earlier: The checkout of the earlier commit.
        tag: Of its images.
        documents: What kustomize/overlays/local renders.
    """

    def __init__(
        self, helm: Helm, cluster: Cluster, progress: Progress, earlier: Path, tag: str, documents: list[Json]
    ) -> None:
        self._helm, self._cluster, self._progress = helm, cluster, progress
        self._charts = {tag: earlier / "charts" / "orderplane", TAG: project_root() / "charts" / "orderplane"}
        self._earlier, self._documents = tag, documents

    async def run(self, rate: float) -> tuple[dict[str, Figures], list[str]]:
        """Install, then upgrade under load, then uninstall; returns figures, and what is wrong."""
        with self._progress.step(f"Installing the chart of {self._earlier}") as step:
            text = yaml.safe_dump_all(surroundings(self._documents, self._earlier))
            await asyncio.to_thread(kubectl, "apply", "--server-side", "-f", "-", stdin=text)
            await self._helm.do(
                "install", RELEASE, str(self._charts[self._earlier]), *_WAIT,
                values=values(self._documents, self._earlier),
            )  # fmt: skip
            await self._runs(self._earlier, step)
            await self._cluster.wait("ready", lambda: not self._cluster.unready(), _STEP_SECONDS, step)
        async with open_backends(await asyncio.to_thread(self._cluster.settings)) as backends:
            trial = Trial(self._cluster, backends, self._progress)
            before = await _migrations(backends.pool)
            upgraded, wrong = await trial.under_load(
                rate, f"Upgrading, rolling back and upgrading at {rate:g} orders/s", self._there_and_back
            )
            new = sorted(set(await _migrations(backends.pool)) - set(before))
            with self._progress.step("helm test"):
                await self._helm.do("test", RELEASE, "--namespace", NAMESPACE)
            audited, problems = await trial.audit()
            wrong += [f"audit: {each}" for each in problems]
            uninstalled, problems = await self._uninstall(backends.pool)
            wrong += problems
        figures = {
            "upgrade": {"from": self._earlier, "migrations": new, **upgraded},
            "audit": audited,
            "uninstall": uninstalled,
        }
        return figures, wrong

    async def _there_and_back(self, step: Step) -> None:
        await self._upgrade(step)
        await self._helm.do("rollback", RELEASE, "1", *_WAIT)
        await self._runs(self._earlier, step)
        await self._upgrade(step)

    async def _upgrade(self, step: Step) -> None:
        words = ("upgrade", RELEASE, str(self._charts[TAG]), *_WAIT)
        await self._helm.do(*words, values=values(self._documents, TAG))
        await self._runs(TAG, step)

    async def _runs(self, tag: str, step: Step) -> None:
        def is_so() -> bool:
            found = [self._cluster.deployment(each) for each in COMPONENTS]
            return all(
                is_rolled_out(each) and each.spec.template.spec.containers[0].image.endswith(f":{tag}")
                for each in found
            )

        await self._cluster.wait(f"every process of {tag}", is_so, _STEP_SECONDS, step)

    async def _uninstall(self, pool: Any) -> tuple[Figures, list[str]]:
        """Try it while an order is open, then drain, then do it."""
        wrong = []
        with self._progress.step("Uninstalling while an order is open") as step:
            await asyncio.to_thread(_scale_operator, 0)
            async with SteadyLoad(GATEWAY, pool, rate=1.0) as load:
                await self._cluster.wait("open", lambda: bool(load.answers.accepted), _STEP_SECONDS, step)
            is_done, said = await self._helm.ask("uninstall", RELEASE, *_WAIT)
            if is_done or not any(name in said for name in load.answers.accepted):
                wrong.append(f"helm uninstall did not name the open orders: {said}")
            await asyncio.to_thread(_scale_operator, 1)
        with self._progress.step("Draining, and uninstalling"):
            await asyncio.to_thread(self._drain)
            await self._helm.do("uninstall", RELEASE, *_WAIT)
        orders = await asyncio.to_thread(kubectl, "get", "orders", "--all-namespaces", "--output=name")
        pods = await asyncio.to_thread(self._cluster.pods)
        wrong += [f"{pod.metadata.name} is left" for pod in pods if pod.metadata.deletion_timestamp is None]
        return {"refusedWhileOpen": not is_done, "ordersKept": len(orders.splitlines())}, wrong

    def _drain(self) -> None:
        command = [sys.executable, "-m", "orderplane.cli.main", "drain", f"--timeout={_STEP_SECONDS:.0f}"]
        done = subprocess.run(
            command, env={**os.environ, **self._cluster.settings()}, capture_output=True, text=True,
            timeout=_STEP_SECONDS + 60, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise NotReady(f"orderplane drain failed: {done.stdout}{done.stderr}")


def _scale_operator(replicas: int) -> None:
    kubectl("scale", "deployment/orderplane-operator", f"--replicas={replicas}", "--namespace", NAMESPACE)
    kubectl("rollout", "status", "deployment/orderplane-operator", "--timeout=120s", "--namespace", NAMESPACE)
    if not replicas:
        selector = "--selector=app.kubernetes.io/name=orderplane,app.kubernetes.io/component=operator"
        kubectl("wait", "pod", selector, "--for=delete", "--timeout=120s", "--namespace", NAMESPACE)


async def _migrations(pool: Any) -> list[str]:
    async with session(pool) as connection:
        return [row["name"] for row in await connection.fetch("SELECT name FROM migrations ORDER BY name")]


async def _run(earlier: Path, tag: str, rate: float) -> tuple[dict[str, Figures], list[str]]:
    progress = ConsoleProgress()
    if "orders.orderplane.dev" in await asyncio.to_thread(kubectl, "get", "crd", "--output=name"):
        raise NotReady("Something is installed on this node already: scripts/node-down, then try again.")
    helm = Helm(await find_chart_tool("helm", progress))
    rendered = await asyncio.to_thread(kubectl, "kustomize", str(OVERLAY))
    documents = list(yaml.load_all(rendered, Loader=yaml.CSafeLoader))
    return await Upgrade(helm, Cluster(), progress, earlier, tag, documents).run(rate)


def main(
    earlier: Annotated[Path, typer.Argument(help="A checkout of the earlier commit.")],
    tag: Annotated[str, typer.Argument(help="The tag of its images on the node.")],
    rate: Annotated[float, typer.Option(help="Orders per second.")] = 5.0,
) -> None:
    """Install the chart of an earlier commit, and upgrade it under load; exit code 1 if anything is wrong.

    Example:

        scripts/node-test upgrade --rate 2
    """
    started = time.monotonic()
    try:
        figures, wrong = run(_run(earlier, tag, rate))
    except NotReady as problem:
        fail(str(problem))
    console.print_json(json.dumps({**figures, "seconds": round(time.monotonic() - started)}))
    for line in wrong:
        console.print(f"[red]wrong[/] {line}", soft_wrap=True)
    raise typer.Exit(1 if wrong else 0)


if __name__ == "__main__":
    typer.run(main)
