"""`scripts/node-test`: what a cluster has to show, with figures. It runs on the node.

kill: mixed orders while pods are killed. restart: every Deployment is restarted under load. hpa: the front
door grows and shrinks with its load. drain: every pod of the product is evicted, and comes back. Each ends
with an audit in the cluster. dev/node/upgrade.py has the trial of the chart.
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import stamina
import typer

from orderplane.cli.backends import Backends, open_backends
from orderplane.cli.console import console, fail, run
from orderplane.dev.demo.messages import collect_messages
from orderplane.dev.demo.mix import mix
from orderplane.dev.demo.shop import Shop
from orderplane.dev.demo.summary import describe, percentile, summarise
from orderplane.dev.localplane.paths import project_root
from orderplane.dev.localplane.progress import ConsoleProgress, Progress, Step
from orderplane.dev.node.cluster import COMPONENTS, GATEWAY, Cluster, NotReady, apply, is_rolled_out, kubectl
from orderplane.dev.node.components import NAME
from orderplane.dev.node.load import SteadyLoad, seconds_to_ship

Figures = dict[str, Any]

TRIALS = ("kill", "restart", "drain", "hpa")
OVERLAY = project_root() / "kustomize" / "overlays" / "local"

_READY_SECONDS = 600.0
_ROLL_SECONDS = 300.0
_END_SECONDS = 600.0
_DRAIN = (
    "drain", NAME, "--pod-selector=app.kubernetes.io/name=orderplane", "--delete-emptydir-data",
    "--timeout=180s",
)  # fmt: skip
_KILL_SECONDS = 3.0
_READS = 30
"""Reads of each order while the front door grows: it is reads that a shop has most of."""
_LATE = 30.0
"""An order that has no label this many seconds after its 202 is late."""


class Trial:
    """One cluster with open connections to everything in it."""

    def __init__(self, cluster: Cluster, backends: Backends, progress: Progress) -> None:
        self.cluster, self.backends, self.progress = cluster, backends, progress

    async def kill(self, orders: int, seed: int) -> tuple[Figures, list[str]]:
        """Place mixed orders while a pod is killed every few seconds; returns figures, and what is wrong."""
        shop, cases = Shop(GATEWAY, self.backends.api, self.backends.pool, rate=4.0), mix(orders, seed)
        killed: list[str] = []
        with self.progress.step(f"{orders} orders while pods are killed") as step:
            started = time.monotonic()

            def look() -> None:
                step.update(f"{dict(shop.phases())}, {len(killed)} pods killed")

            await shop.open()
            async with asyncio.TaskGroup() as group:
                killing = group.create_task(self._kill_pods(random.Random(seed), killed))
                placing = group.create_task(shop.place_all(cases))
                is_over = await shop.watch(_END_SECONDS, look)
                killing.cancel()
                placing.cancel()
            took = time.monotonic() - started
        await self._all_ready()
        messages = await collect_messages(self.backends.pool, self.backends.channels, seconds=120)
        summary = await summarise(shop.placed, self.backends.pool, self.backends.kafka)
        wrong = [describe(placed) for placed in shop.placed if not placed.is_as_expected]
        wrong += [f"missing message: {each}" for each in messages.missing]
        # A mail whose notifier died between the server's answer and the commit is sent again.
        if not is_over:
            wrong.append(f"not every order has ended after {_END_SECONDS:.0f} s")
        figures = {
            "orders": orders,
            "seconds": round(took, 1),
            "killed": {name: sum(f"-{name}-" in pod for pod in killed) for name in COMPONENTS},
            "ends": summary.ends,
            "messages": {channel: sum(counts.values()) for channel, counts in messages.arrived.items()},
            "messagesRepeated": len(messages.repeated),
            "shippedP50": round(summary.latency_p50, 2),
            "shippedP95": round(summary.latency_p95, 2),
        }
        return figures, wrong

    async def _kill_pods(self, rng: random.Random, killed: list[str]) -> None:
        for component in _forever(COMPONENTS):
            pods = await asyncio.to_thread(self.cluster.pods, component)
            running = [pod.metadata.name for pod in pods if pod.status.phase == "Running"]
            if running:
                killed.append(rng.choice(running))
                await asyncio.to_thread(self.cluster.kill, killed[-1])
            await asyncio.sleep(_KILL_SECONDS)
            # On a slow machine, a pod may need long to come back: something has to be up in between.
            deadline = time.monotonic() + _ROLL_SECONDS
            while not is_rolled_out(await asyncio.to_thread(self.cluster.deployment, component)):
                if time.monotonic() > deadline:
                    raise NotReady(f"{component} did not come back in {_ROLL_SECONDS:.0f} s.")
                await asyncio.sleep(0.5)

    async def restart(self, rate: float, seconds: float, rounds: int) -> tuple[Figures, list[str]]:
        """Restart every Deployment under a steady load: one after the other, spread over `seconds`."""
        restarts = COMPONENTS * rounds

        async def restart_all(step: Step) -> None:
            started = time.monotonic()
            for number, component in enumerate(restarts, 1):
                await asyncio.to_thread(self.cluster.restart, component)
                await self._rolled_out(component, step)
                due = started + seconds * number / len(restarts)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

        text = f"Restarting every Deployment at {rate:g} orders/s"
        figures, wrong = await self.under_load(rate, text, restart_all)
        return {**figures, "restarts": len(restarts)}, wrong

    async def _rolled_out(self, component: str, step: Step) -> None:
        def is_so() -> bool:
            return is_rolled_out(self.cluster.deployment(component))

        await self.cluster.wait(f"{component} rolled out", is_so, _ROLL_SECONDS, step)

    async def drain(self) -> tuple[Figures, list[str]]:
        """Evict every pod of the product as `kubectl drain` does, and have them back."""
        pods = await asyncio.to_thread(self.cluster.pods)
        started = time.monotonic()
        with self.progress.step("Draining the node"):
            await asyncio.to_thread(kubectl, *_DRAIN)
        took = time.monotonic() - started
        await asyncio.to_thread(kubectl, "uncordon", NAME)
        await self._all_ready()
        return {"pods": len(pods), "seconds": round(took, 1)}, []

    async def hpa(self, rate: float) -> tuple[Figures, list[str]]:
        """Have the front door scale from 1 to 3 under load, and back without it."""
        most: list[int] = []

        async def grow(step: Step) -> None:
            started = time.monotonic()
            await self.cluster.wait(
                "three gateways", lambda: self.cluster.replicas("gateway") == 3, _ROLL_SECONDS, step
            )
            most.append(round(time.monotonic() - started))

        text = f"Scaling at {rate:g} orders/s, each read {_READS} times"
        figures, wrong = await self.under_load(rate, text, grow, reads=_READS)
        with self.progress.step("Waiting for one gateway") as step:
            started = time.monotonic()
            await self.cluster.wait(
                "one gateway", lambda: self.cluster.replicas("gateway") == 1, _ROLL_SECONDS, step
            )
        return {**figures, "grownAfter": most[0], "shrunkAfter": round(time.monotonic() - started)}, wrong

    async def under_load(
        self, rate: float, text: str, work: Callable[[Step], Awaitable[None]], *, reads: int = 1
    ) -> tuple[Figures, list[str]]:
        """Place orders while `work` is done, and wait for their labels; returns figures and what is wrong."""
        started = time.monotonic()
        with self.progress.step(text) as step:
            async with SteadyLoad(GATEWAY, self.backends.pool, rate, reads) as load:
                await work(step)
            answers, took = load.answers, time.monotonic() - started
        with self.progress.step("Waiting for the last order") as step:
            deadline = time.monotonic() + _END_SECONDS
            while len(shipped := await seconds_to_ship(self.backends.pool, answers.accepted)) < len(
                answers.accepted
            ):
                if time.monotonic() > deadline:
                    break
                step.update(f"{len(shipped)} of {len(answers.accepted)}")
                await asyncio.sleep(0.5)
        late = [f"{name} was late: {seconds:.1f} s" for name, seconds in shipped.items() if seconds > _LATE]
        lost = [f"{name} was not shipped" for name in answers.accepted if name not in shipped]
        posts, ships = sorted(answers.seconds), sorted(shipped.values())
        figures = {
            "requests": answers.sent,
            "failed": len(answers.failed),
            "orders": len(answers.accepted),
            "seconds": round(took, 1),
            "postP50": round(percentile(posts, 50), 3),
            "postP95": round(percentile(posts, 95), 3),
            "postMax": round(posts[-1], 3) if posts else None,
            "shippedP50": round(percentile(ships, 50), 2),
            "shippedP95": round(percentile(ships, 95), 2),
            "shippedMax": round(ships[-1], 2) if ships else None,
        }
        return figures, [f"failed request: {each}" for each in answers.failed] + late + lost

    async def _all_ready(self) -> None:
        with self.progress.step("Waiting until every pod is ready") as step:
            await self.cluster.wait("ready", lambda: not self.cluster.unready(), _READY_SECONDS, step)

    async def audit(self) -> tuple[Figures, list[str]]:
        """The audit as a Job in the cluster."""
        with self.progress.step("Auditing in the cluster"):
            verdict = await self.cluster.audit()
        wrong = [f"{each['invariant']}: {each['subject']} {each['detail']}" for each in verdict["violations"]]
        return {"clean": verdict["clean"], "open": len(verdict["open"]), **verdict["counts"]}, wrong


def _forever(names: tuple[str, ...]) -> Any:
    while True:
        yield from names


@asynccontextmanager
async def opened(progress: Progress) -> AsyncIterator[Trial]:
    """Apply the overlay, wait until everything is ready, and connect."""
    with progress.step("Applying kustomize/overlays/local, twice"):
        changed = await asyncio.to_thread(apply, OVERLAY)
    if changed:
        raise NotReady(f"The second apply has changed {changed}.")
    cluster = Cluster()
    with progress.step("Waiting until every pod is ready") as step:
        await cluster.wait("ready", lambda: not cluster.unready(), _READY_SECONDS, step)
    async with open_backends(await asyncio.to_thread(cluster.settings)) as backends:
        yield Trial(cluster, backends, progress)


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help="kill, restart, drain, hpa; all of them without any.")
    ] = None,
    orders: Annotated[int, typer.Option(min=1, help="How many orders kill places.")] = 100,
    seed: Annotated[int, typer.Option(help="The same seed places the same orders.")] = 1,
    rate: Annotated[float, typer.Option(help="Orders per second of restart and hpa.")] = 10.0,
    seconds: Annotated[float, typer.Option(help="Over how long restart spreads its restarts.")] = 0.0,
    rounds: Annotated[int, typer.Option(min=1, help="How often restart restarts each Deployment.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Apply kustomize/overlays/local to the node, and try it; exit code 1 if anything is wrong.

    Examples:

        scripts/node-test

        scripts/node-test restart --seconds 260
    """
    chosen = names or list(TRIALS)
    if unknown := set(chosen) - set(TRIALS):
        fail(f"There is no trial {', '.join(sorted(unknown))}; there are {', '.join(TRIALS)}.", code=2)
    try:
        figures, wrong = run(_try(chosen, orders, seed, rate, seconds, rounds))
    except NotReady as problem:
        fail(str(problem))
    console.print_json(json.dumps(figures))
    for line in wrong:
        console.print(f"[red]wrong[/] {line}", soft_wrap=True)
    if json_file is not None:
        json_file.write_text(json.dumps({**figures, "wrong": wrong}, indent=2) + "\n")
    raise typer.Exit(1 if wrong else 0)


async def _try(
    chosen: list[str], orders: int, seed: int, rate: float, seconds: float, rounds: int
) -> tuple[dict[str, Figures], list[str]]:
    figures: dict[str, Figures] = {}
    wrong: list[str] = []
    # The customers of `kill` ask again and again while the gateway is down; a line for each says nothing.
    stamina.instrumentation.set_on_retry_hooks([])
    async with opened(ConsoleProgress()) as trial:
        runs: dict[str, Callable[[], Awaitable[tuple[Figures, list[str]]]]] = {
            "kill": lambda: trial.kill(orders, seed),
            "restart": lambda: trial.restart(rate, seconds, rounds),
            "drain": trial.drain,
            "hpa": lambda: trial.hpa(rate),
        }
        for name in chosen:
            for step, work in ((name, runs[name]), (f"audit after {name}", trial.audit)):
                figures[step], problems = await work()
                wrong += [f"{step}: {problem}" for problem in problems]
    return figures, wrong


if __name__ == "__main__":
    typer.run(main)
