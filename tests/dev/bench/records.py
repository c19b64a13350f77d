"""Records of runs that never were."""

from datetime import UTC, datetime
from typing import Any

from orderplane.dev.bench.costs import Cost, Costs
from orderplane.dev.bench.cpu import Usage
from orderplane.dev.bench.load import KINDS, Answers, LoadResult, LoadSpec
from orderplane.dev.bench.record import Conditions, LoadRecord
from orderplane.dev.bench.yardstick import Timing, Yardstick


def usage(seconds: float = 100.0, others: float = 0.0, stolen: float = 0.0, **cpu_seconds: float) -> Usage:
    named = {name.replace("_", "-"): spent for name, spent in cpu_seconds.items()}
    return Usage(seconds=seconds, cpu_seconds=named, others=others, stolen=stolen)


def answers(p95: float = 50.0, count: int = 100, missed: bool = False) -> Answers:
    """Each kind of request with the same figures."""
    values = {"count": count, "avg": p95, "med": p95, "p(95)": p95, "p(99)": p95, "max": p95}
    metric: dict[str, Any] = {"type": "trend", "contains": "time", "values": values}
    metric["thresholds"] = {"p(95)<300": {"ok": not missed}}
    metrics: dict[str, dict[str, Any]] = {f"http_req_duration{{kind:{kind}}}": metric for kind in KINDS}
    return Answers(metrics=metrics)


def yardstick(cpu_seconds: float = 1.0, work: str = "w") -> Yardstick:
    timing = Timing(work=work, cpu_seconds=cpu_seconds, wall_seconds=cpu_seconds)
    return Yardstick(cores=2, alone=timing, together=timing, busy=0.0)


def record(
    used: Usage | None = None,
    *,
    speed: float = 1.0,
    work: str = "w",
    p95: float = 50.0,
    gateways: int = 1,
    request_ms: float | None = None,
    seconds: int = 100,
    missed: bool = False,
) -> LoadRecord:
    """One run.

    Args:
        speed: CPU seconds of the yardstick.
        request_ms: CPU milliseconds of the gateway for each kind of request; None if that was not measured.
    """
    costs = None
    if request_ms is not None:
        each = Cost(count=10, failed=0.0, cpu_ms={"gateway": request_ms, "k6": 5.0})
        order = Cost(count=10, failed=0.0, cpu_ms={"operator": 20.0, "etcd": 5.0, "k6": 9.0})
        costs = Costs(rest=usage(gateway=1.0), requests=dict.fromkeys(KINDS, each), order=order)
    return LoadRecord(
        conditions=Conditions(
            at=datetime(2026, 1, 1, tzinfo=UTC),
            code="abc",
            machine="2 cores",
            gateways=gateways,
            before=yardstick(speed, work),
            after=yardstick(speed, work),
        ),
        load=LoadResult(
            spec=LoadSpec(script="mixed", per_minute=600, seconds=seconds, share=0.05),
            answers=answers(p95, missed=missed),
            accepted=5,
            ends={"Delivered": 5},
            saga_p50_seconds=0.1,
            saga_p95_seconds=0.2,
            peak_open=3,
            end_seconds=4.0,
            usage=used or usage(gateway=20.0, etcd=10.0, k6=30.0),
        ),
        costs=costs,
    )
