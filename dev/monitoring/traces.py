"""One order in a real Jaeger: `python -m orderplane.dev.monitoring.traces`.

Every process of a local plane sends its spans to Jaeger by OTLP. One order is placed by HTTP, and Jaeger is
asked for its trace until everything is in it. Exit code 1 says what is missing. The first run builds Jaeger,
eight minutes of CPU, so no test runs it.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import typer

from orderplane.cli.backends import open_backends
from orderplane.cli.console import console, fail, run
from orderplane.client.transport import Transport
from orderplane.dev.demo.command import TEMPO
from orderplane.dev.demo.customers import arrive
from orderplane.dev.demo.mix import Story, mix
from orderplane.dev.demo.products import seed
from orderplane.dev.localplane.components import answers
from orderplane.dev.localplane.plane import Plane, PlaneSpec, remove
from orderplane.dev.localplane.ports import free_port
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.localplane.supervisor import Component, StartFailed
from orderplane.dev.localplane.tools import GoProgram, ToolMissing, built
from orderplane.dev.monitoring.servers import PROCESSES
from orderplane.ledgers.postgres.session import Pool, session

Json = dict[str, Any]

JAEGER = GoProgram("jaeger", "jaeger", "github.com/jaegertracing/jaeger/cmd/jaeger", 5)

WANTED = (
    ("gateway", "POST /api/orders"),
    ("operator", "payments create_intent"),
    ("operator", "payments confirm"),
    ("operator", "carrier create"),
    ("operator", "carrier buy"),
    ("relay", "publish order.created"),
    ("relay", "publish payment.success"),
    ("relay", "publish order.shipped"),
    ("notifier", "notify order.shipped"),
)
"""Spans of one order, by process and name."""

_SECONDS = 90.0
_TIMEOUT = aiohttp.ClientTimeout(total=10)


def spans_of(trace: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The process and the name of each span, as they began."""
    return [(_process(trace, span), span["operationName"]) for span in _by_time(trace["spans"])]


def tree_of(trace: Mapping[str, Any]) -> list[str]:
    """The trace as lines: when each span began and how long it took, in ms; its process; its name."""
    children: dict[str, list[Json]] = {}
    for span in trace["spans"]:
        parent = next((each["spanID"] for each in span["references"]), "")
        children.setdefault(parent, []).append(span)
    known = {span["spanID"] for span in trace["spans"]}
    roots = [span for parent, spans in children.items() if parent not in known for span in spans]
    began = min((int(span["startTime"]) for span in roots), default=0)

    def lines(spans: Iterable[Json], depth: int) -> Iterator[str]:
        for span in _by_time(spans):
            at, took = (int(span["startTime"]) - began) / 1000, int(span["duration"]) / 1000
            indent = "  " * depth
            yield f"{at:8.0f} {took:6.0f}  {_process(trace, span):9} {indent}{span['operationName']}"
            yield from lines(children.get(span["spanID"], ()), depth + 1)

    return list(lines(roots, 0))


def _process(trace: Mapping[str, Any], span: Json) -> str:
    return str(trace["processes"][span["processID"]]["serviceName"]).removeprefix("orderplane-")


def _by_time(spans: Iterable[Json]) -> list[Json]:
    return sorted(spans, key=lambda span: int(span["startTime"]))


def orphans_of(trace: Mapping[str, Any]) -> list[str]:
    """Names of spans whose parent is in no span of the trace; the first span has none."""
    known = {span["spanID"] for span in trace["spans"]}
    return [
        span["operationName"]
        for span in trace["spans"]
        for reference in span["references"]
        if reference["refType"] == "CHILD_OF" and reference["spanID"] not in known
    ]


def missing_of(spans: Iterable[tuple[str, str]]) -> list[str]:
    """What of `WANTED` is not there."""
    found = set(spans)
    return [f"{process}: {name}" for process, name in WANTED if (process, name) not in found]


async def _start_jaeger(plane: Plane, program: Path, otlp: int, query: int) -> None:
    internal = free_port(), free_port()
    config = {
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query"],
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}},
            "telemetry": {"metrics": {"level": "none"}},
        },
        "extensions": {
            "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": 10_000}}}},
            "jaeger_query": {
                "storage": {"traces": "memory"},
                "http": {"endpoint": f"127.0.0.1:{query}"},
                "grpc": {"endpoint": f"127.0.0.1:{internal[0]}"},
            },
        },
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{otlp}"}}}},
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
    }
    file = plane.state / "jaeger.yaml"
    await asyncio.to_thread(file.write_text, json.dumps(config))
    await plane.supervisor.start(
        Component(
            "jaeger",
            (str(program), f"--config={file}"),
            answers(f"http://127.0.0.1:{query}/api/services"),
            # Not its own requests.
            env={"OTEL_TRACES_SAMPLER": "always_off"},
        )
    )


async def _place(plane: Plane, pool: Pool) -> str:
    """Place an order by HTTP, and wait for its shipping; answers the id of its trace."""
    async with aiohttp.ClientSession(plane.url("gateway"), timeout=_TIMEOUT) as http:
        transport = Transport(http)
        [customer] = await arrive(transport, pool, count=1)
        [case] = mix(1, 1, stories={Story.GOOD: 1})
        placed = await customer.client(transport).orders.create(case.body, key=case.key)
    deadline = time.monotonic() + _SECONDS
    while (row := await _shipped(pool, placed["id"])) is None:
        if time.monotonic() > deadline:
            fail(f"{placed['id']} was not shipped within {_SECONDS:g} s.")
        await asyncio.sleep(0.2)
    # A traceparent is version-trace-span-flags.
    return str(row["traceparent"]).split("-")[1]


async def _shipped(pool: Pool, name: str) -> Any:
    async with session(pool) as connection:
        return await connection.fetchrow(
            "SELECT traceparent FROM history WHERE name = $1 AND type = 'order.shipped'", name
        )


async def _trace(query: int, trace_id: str) -> tuple[Json, list[str]]:
    """The trace, once everything is in it or time is over; and what is missing."""
    deadline = time.monotonic() + _SECONDS
    trace: Json = {"spans": [], "processes": {}}
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as http:
        while True:
            async with http.get(f"http://127.0.0.1:{query}/api/traces/{trace_id}") as answer:
                if answer.status == 200:
                    [trace] = (await answer.json())["data"]
            missing = missing_of(spans_of(trace)) + [f"the parent of {each}" for each in orphans_of(trace)]
            if not missing or time.monotonic() > deadline:
                return trace, missing
            await asyncio.sleep(0.5)


async def _main() -> list[str]:
    progress = ConsoleProgress(console)
    program = await built(JAEGER, progress)
    state = Path(tempfile.mkdtemp(prefix="orderplane-traces-"))
    otlp, query = free_port(), free_port()
    tracing = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{otlp}", "OTEL_BSP_SCHEDULE_DELAY": "200"}
    env = {name: {**TEMPO.get(name, {}), **tracing} for name in PROCESSES} | {"carrier": TEMPO["carrier"]}
    try:
        async with Plane.start(state, PlaneSpec(env=env), progress) as plane:
            await _start_jaeger(plane, program, otlp, query)
            async with open_backends(plane.env("admin")) as backends:
                await seed(backends.pool)
                trace, missing = await _trace(query, await _place(plane, backends.pool))
    finally:
        await asyncio.to_thread(remove, state)
    for line in tree_of(trace):
        console.print(line, markup=False, soft_wrap=True)
    return missing


def main() -> None:
    """Place one order, and find its whole trace in a real Jaeger; exit code 1 says what is missing.

    Example:

        python -m orderplane.dev.monitoring.traces
    """
    try:
        problems = run(_main())
    except (ToolMissing, StartFailed) as problem:
        fail(str(problem))
    for each in problems:
        console.print(f"missing: {each}", style="red", markup=False)
    if problems:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
