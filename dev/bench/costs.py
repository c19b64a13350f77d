"""What one request of each kind and one order cost: CPU milliseconds of each process.

Each kind is sent alone, one after the other, and what the processes use at rest is taken off. A regression
over a mixture would not disturb it, but cannot tell kinds apart whose shares hardly change. The price: alone,
a kind finds its code and data in the CPU's caches, in a mixture less so. `explained` says how large that is.
"""

import asyncio
from collections.abc import Callable, Mapping

from pydantic import BaseModel, ConfigDict

from orderplane.dev.bench.cpu import STAND_INS, Usage, by_process, read, usage
from orderplane.dev.bench.load import KINDS, Generator, LoadResult, LoadSpec

REST_SECONDS = 10
READS = {"per_minute": 6_000, "seconds": 8}
ORDERS = {"per_minute": 600, "seconds": 20}
"""As many as are finished while they come; reads in the first seconds after would not be alone."""


class Cost(BaseModel):
    """What one request or one order costs.

    Args:
        count: How many were measured.
        failed: Share of them that was refused or failed, 0 to 1.
        cpu_ms: CPU milliseconds of one, by process, replicas added up, without what is used at rest.
    """

    model_config = ConfigDict(frozen=True)

    count: int
    failed: float
    cpu_ms: dict[str, float]

    @property
    def all_ms(self) -> float:
        """CPU milliseconds of all processes but those that stand in for customers and providers."""
        return sum(spent for name, spent in self.cpu_ms.items() if name not in STAND_INS)


class Costs(BaseModel):
    """What a plane uses at rest, and what is added by a request of each kind and by an order.

    Args:
        rest: While no request came and no order was in progress.
        requests: By kind. That of `place` is of the request alone, for the gateway only.
        order: Everything from its request until it is Delivered, its events are in Kafka, and its customer
            is told.
    """

    model_config = ConfigDict(frozen=True)

    rest: Usage
    requests: dict[str, Cost]
    order: Cost


def cost(used: Usage, rest: Usage, count: int, failed: float) -> Cost:
    """What each of `count` has added to what is used at rest."""
    at_rest = by_process(rest.cores)
    spent = by_process(used.cpu_seconds)
    added = {name: seconds - at_rest.get(name, 0.0) * used.seconds for name, seconds in spent.items()}
    return Cost(
        count=count,
        failed=failed,
        cpu_ms={name: 1000 * max(0.0, seconds) / count for name, seconds in added.items()} if count else {},
    )


def explained(costs: Costs, counts: Mapping[str, float], used: Usage) -> float:
    """The share of the gateway's CPU in a mixture that its kinds, each measured alone, add up to.

    Args:
        counts: Requests of each kind in the mixture.
        used: By the mixture.
    """
    kinds = (
        sum(count * costs.requests[kind].cpu_ms.get("gateway", 0.0) for kind, count in counts.items()) / 1000
    )
    rest = by_process(costs.rest.cores).get("gateway", 0.0) * used.seconds
    return (kinds + rest) / by_process(used.cpu_seconds)["gateway"]


def counts_of(result: LoadResult) -> dict[str, float]:
    """Requests of each kind."""
    return {kind: result.answers.of_kind(kind).get("count", 0.0) for kind in KINDS}


async def measure(generator: Generator, report: Callable[[str], None]) -> Costs:
    """Measure rest, then each kind alone. New orders come last, and are finished at the end.

    Raises:
        ToolMissing: k6 failed.
    """
    report("at rest")
    before = read(generator.plane)
    await asyncio.sleep(REST_SECONDS)
    rest = usage(before, read(generator.plane))
    requests = {}
    for kind in KINDS:
        if kind != "place":
            report(f"only {kind}")
            spec = LoadSpec(script="mixed", kind=kind, **READS)
            answers, used = await generator.send(spec)
            requests[kind] = cost(used, rest, int(answers.of_kind(kind).get("count", 0)), answers.failed)
    report("only new orders")
    before = read(generator.plane)
    answers, _ = await generator.send(LoadSpec(script="mixed", kind="place", **ORDERS))
    await generator.wait_ended()
    await generator.wait_published()
    count = int(answers.of_kind("place").get("count", 0))
    order = cost(usage(before, read(generator.plane)), rest, count, answers.failed)
    requests["place"] = order.model_copy(update={"cpu_ms": {"gateway": order.cpu_ms.get("gateway", 0.0)}})
    return Costs(rest=rest, requests={kind: requests[kind] for kind in KINDS}, order=order)
