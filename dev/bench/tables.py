"""What the benchmarks print."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table

from orderplane.dev.bench.compare import Row
from orderplane.dev.bench.costs import Costs, counts_of, explained
from orderplane.dev.bench.cpu import STAND_INS, Usage
from orderplane.dev.bench.load import KINDS, LoadResult
from orderplane.dev.bench.record import Conditions, LoadRecord, SearchRecord
from orderplane.dev.bench.sagas import Result as SagaResult
from orderplane.dev.bench.search import Trial
from orderplane.dev.bench.watchers import Result as WatchersResult
from orderplane.dev.bench.yardstick import Yardstick


def print_load(console: Console, record: LoadRecord) -> None:
    """A run: waits, orders, CPU, what each kind costs, the yardstick, and what was missed."""
    result = record.load
    console.print(_waits(result))
    failed = f"{100 * result.answers.failed:.3f} %"
    console.print(f"failed: {failed}; accepted orders: {result.accepted}; ends: {result.ends}")
    ended = (
        "not all finished"
        if result.end_seconds is None
        else f"all finished {result.end_seconds:.0f} s after it"
    )
    console.print(
        f"accepted to Shipped: p50 {result.saga_p50_seconds:.2f} s, p95 {result.saga_p95_seconds:.2f} s; "
        f"peak at once: {result.peak_open}; {ended}"
    )
    console.print(_cores(result.usage))
    if result.writes:
        console.print(_writes(result.writes))
    if record.costs is not None:
        _print_costs(console, record.costs, result)
    _print_conditions(console, record.conditions)
    for violation in result.violations:
        console.print(f"[red]violation[/] {violation}", soft_wrap=True)
    for missed in result.answers.missed:
        console.print(f"[red]missed[/] {missed}", soft_wrap=True)


def print_watchers(console: Console, result: WatchersResult) -> None:
    """What many streams cost, and whether they showed everything."""
    console.print(
        f"{result.watchers} streams, {result.orders} orders in {result.seconds:.0f} s: "
        f"{result.delivered} changes delivered"
    )
    console.print(f"write to delivery: p50 {1000 * result.p50:.0f} ms, p95 {1000 * result.p95:.0f} ms")
    console.print(
        f"the gateway was killed, and ready again {result.down_seconds:.1f} s later; all had what they had "
        f"missed {result.resumed_seconds:.1f} s after that; {result.resets} began anew"
    )
    console.print(
        f"memory of a stream: {result.watcher_bytes / 1024:.0f} KiB; cores: gateway "
        f"{result.gateway_cores:.2f}, all clients {result.client_cores:.2f}"
    )
    if result.wrong:
        console.print(f"[red]{result.wrong} watchers have missed or repeated changes[/]")


def print_search(console: Console, record: SearchRecord) -> None:
    """Every run of a search, and its answer."""
    table = Table("requests a minute", "holds", "worst p95", "kind", "orders done after", "missed")
    for each in sorted(record.trials, key=lambda trial: trial.per_minute):
        table.add_row(*_trial(each))
    console.print(table)
    _print_conditions(console, record.conditions)
    if record.highest is None:
        console.print("[red]No rate held.[/]")
    else:
        console.print(
            f"highest rate that held: {record.highest} requests a minute, {100 * record.share:g} % of them "
            f"new orders, in runs of {record.seconds} s with {record.conditions.gateways} gateways"
        )


def trial_line(each: Trial) -> str:
    """One run of a search, as a line of progress."""
    rate, _, worst, kind, *_ = _trial(each)
    return f"{rate} requests a minute: {'held' if each.is_held else 'missed'}, worst p95 {worst} ({kind})"


def print_comparison(console: Console, rows: Sequence[Row], warnings: Sequence[str], pairs: int) -> None:
    """One table; a ratio below 1 means less after the change."""
    columns = ["", "before", "after", "ratio", *(["from", "to"] if pairs > 1 else []), "at equal speed"]
    table = Table(*columns)
    for section, members in groupby(rows, key=lambda row: row.section):
        table.add_section()
        table.add_row(f"[bold]{section}[/]")
        for row in members:
            extremes = [f"{row.lowest:.2f}", f"{row.highest:.2f}"] if pairs > 1 else []
            adjusted = "" if row.adjusted is None else f"{row.adjusted:.2f}"
            table.add_row(
                row.name, _figure(row.before), _figure(row.after), f"{row.ratio:.2f}", *extremes, adjusted
            )
    console.print(table)
    for warning in warnings:
        console.print(f"[yellow]note[/] {warning}", soft_wrap=True)


def print_sagas(console: Console, result: SagaResult) -> None:
    """A run of whole sagas."""
    console.print(f"{result.sagas_per_second:.1f} sagas/s, {result.ratio:.2f} of the ceiling")
    console.print(
        f"ceiling: {result.ceiling_per_second:.1f} sagas/s of {result.writes_per_saga:.1f} bare writes each"
    )
    console.print(f"latency to Shipped: p50 {result.p50:.2f} s, p95 {result.p95:.2f} s")
    table = _writes(result.writes)
    if result.committed_later:
        table.add_row("of these after Shipped", f"{result.committed_later:.2f}")
    console.print(table)
    cpu = Table("process", "CPU ms per saga")
    for name, milliseconds in result.cpu_ms.items():
        cpu.add_row(name, f"{milliseconds:.1f}")
    cpu.add_row("all", f"{sum(result.cpu_ms.values()):.1f}")
    console.print(cpu)


def _waits(result: LoadResult) -> Table:
    table = Table("k6", "count", "avg ms", "p50 ms", "p95 ms", "p99 ms", "max ms")
    for name, metric in sorted(result.answers.metrics.items()):
        values = metric["values"]
        if metric.get("contains") == "time" and name.startswith(("http_req_duration", "accepted", "shed")):
            figures = (values[key] for key in ("avg", "med", "p(95)", "p(99)", "max"))
            shown = name.removeprefix("http_req_duration{kind:").removesuffix("}")
            table.add_row(shown, f"{values['count']:.0f}", *(f"{figure:.1f}" for figure in figures))
        elif metric["type"] == "counter" and metric.get("contains") == "default":
            table.add_row(name, f"{values['count']:.0f}")
    return table


def _writes(per_order: Mapping[str, float]) -> Table:
    table = Table("write to the API server", "per order")
    for name, count in per_order.items():
        table.add_row(name, f"{count:.2f}")
    table.add_row("all", f"{sum(per_order.values()):.2f}")
    return table


def _cores(used: Usage) -> Table:
    table = Table("process", "cores", "CPU s")
    for name, cores in used.cores.items():
        table.add_row(name, f"{cores:.2f}", f"{used.cpu_seconds[name]:.1f}")
    for text, names in (
        ("all", set(used.cores)),
        ("all without sandboxes and k6", set(used.cores) - STAND_INS),
    ):
        seconds = sum(used.cpu_seconds[name] for name in names)
        table.add_row(text, f"{seconds / used.seconds:.2f}", f"{seconds:.1f}")
    table.add_row("others on this machine", "", f"{100 * used.others:.0f} %")
    table.add_row("stolen by the hypervisor", "", f"{100 * used.stolen:.0f} %")
    return table


def _print_costs(console: Console, costs: Costs, result: LoadResult) -> None:
    behind = ("gateway", "kube-apiserver", "etcd", "postgres", "redis")
    shown = [name for name in behind if any(name in cost.cpu_ms for cost in costs.requests.values())]
    table = Table("CPU ms of a request", *shown, "requests", "failed")
    for kind in KINDS:
        cost = costs.requests[kind]
        figures = (f"{cost.cpu_ms[name]:.2f}" if name in cost.cpu_ms else "" for name in shown)
        table.add_row(kind, *figures, str(cost.count), f"{100 * cost.failed:.1f} %")
    console.print(table)
    order = Table("CPU ms of an order", "")
    for name, milliseconds in sorted(costs.order.cpu_ms.items(), key=lambda item: -item[1]):
        order.add_row(name, f"{milliseconds:.1f}")
    order.add_row("all without sandboxes and k6", f"{costs.order.all_ms:.1f}")
    console.print(order)
    rest = sum(cores for name, cores in costs.rest.cores.items() if name not in STAND_INS)
    share = explained(costs, counts_of(result), result.usage)
    console.print(
        f"at rest: {rest:.2f} cores. Kinds alone and rest add up to {100 * share:.0f} % of the gateway's CPU "
        "in the mixture."
    )


def _print_conditions(console: Console, conditions: Conditions) -> None:
    console.print(
        f"{conditions.code} on {conditions.machine}, {conditions.at:%Y-%m-%d %H:%M} UTC", soft_wrap=True
    )
    table = Table(
        "yardstick", "alone, CPU s", "by the clock", "all cores, CPU s", "by the clock", "others busy"
    )
    for name, each in (("before", conditions.before), ("after", conditions.after)):
        table.add_row(name, *_yardstick(each))
    console.print(table)


def _yardstick(each: Yardstick) -> list[str]:
    timings = (
        seconds
        for timing in (each.alone, each.together)
        for seconds in (timing.cpu_seconds, timing.wall_seconds)
    )
    return [*(f"{seconds:.2f}" for seconds in timings), f"{100 * each.busy:.0f} %"]


def _trial(each: Trial) -> list[str]:
    kind = max(each.p95_ms, key=lambda name: each.p95_ms[name], default="")
    return [
        str(each.per_minute),
        "yes" if each.is_held else "no",
        f"{each.p95_ms[kind]:.0f} ms" if kind else "",
        kind,
        "not in time" if each.end_seconds is None else f"{each.end_seconds:.0f} s",
        ", ".join(each.missed),
    ]


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
