"""CPU time from /proc: of each process of a plane, and of the whole machine."""

import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass

import psutil
from pydantic import BaseModel, ConfigDict

from orderplane.dev.localplane.components import SANDBOXES
from orderplane.dev.localplane.plane import Plane

LOAD_GENERATOR = "k6"
STAND_INS = SANDBOXES | {LOAD_GENERATOR}
"""What is there for the benchmark only: customers, and providers. Nobody who runs Orderplane pays for it."""


@dataclass(frozen=True, slots=True)
class MachineClock:
    """CPU seconds of the whole machine since it started, all cores together.

    Args:
        busy: In which somebody on this machine worked.
        stolen: In which the hypervisor ran others, while somebody here wanted to work.
        total: All, those without work included.
    """

    busy: float
    stolen: float
    total: float


@dataclass(frozen=True, slots=True)
class Reading:
    """CPU seconds so far, by process, and the time at which they were read."""

    at: float
    processes: Mapping[str, float]
    machine: MachineClock


class Usage(BaseModel):
    """The CPU time of a period.

    Args:
        seconds: Its length.
        cpu_seconds: User and system time by process. The replicas of a process are apart: `gateway-2`.
        others: Share of the machine that other processes used, 0 to 1. More than 0.05 spoils a comparison.
        stolen: Share of the machine that the hypervisor gave to others, 0 to 1.
    """

    model_config = ConfigDict(frozen=True)

    seconds: float
    cpu_seconds: dict[str, float]
    others: float
    stolen: float

    @property
    def cores(self) -> dict[str, float]:
        """Cores in use by process, the most first."""
        cores = {name: spent / self.seconds for name, spent in self.cpu_seconds.items()}
        return dict(sorted(cores.items(), key=lambda item: -item[1]))


def process_of(name: str) -> str:
    """The process of which `name` is a replica: gateway-2 is the gateway."""
    return "gateway" if name.startswith("gateway-") else name


def by_process(cpu_seconds: Mapping[str, float]) -> dict[str, float]:
    """With the replicas of each process added up."""
    sums: dict[str, float] = {}
    for name, spent in cpu_seconds.items():
        sums[process_of(name)] = sums.get(process_of(name), 0.0) + spent
    return sums


def read(plane: Plane) -> Reading:
    """The CPU times now. RUSAGE_CHILDREN counts ended children: while a plane runs that is k6 alone."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    processes = {name: plane.supervisor.cpu_seconds(name) for name in plane.supervisor.names}
    processes[LOAD_GENERATOR] = ended.ru_utime + ended.ru_stime
    return Reading(time.monotonic(), processes, machine_clock())


def machine_clock() -> MachineClock:
    """The CPU times of the machine now."""
    # `guest` is part of `user`, so it is not added.
    now = psutil.cpu_times()
    stolen, idle = getattr(now, "steal", 0.0), now.idle + getattr(now, "iowait", 0.0)
    more = sum(getattr(now, name, 0.0) for name in ("nice", "irq", "softirq"))
    busy = now.user + now.system + more
    return MachineClock(busy, stolen, busy + stolen + idle)


def usage(before: Reading, after: Reading) -> Usage:
    """What was used between two readings."""
    spent = {name: now - before.processes.get(name, 0.0) for name, now in after.processes.items()}
    others, stolen = shares(before.machine, after.machine, own_seconds=sum(spent.values()))
    return Usage(seconds=after.at - before.at, cpu_seconds=spent, others=others, stolen=stolen)


def shares(before: MachineClock, after: MachineClock, *, own_seconds: float) -> tuple[float, float]:
    """The shares of the machine that others used, and that were stolen, between two readings; 0 to 1 each.

    Args:
        own_seconds: CPU seconds that do not count as others'.
    """
    total = after.total - before.total
    if total <= 0:
        return 0.0, 0.0
    others = max(0.0, after.busy - before.busy - own_seconds) / total
    return min(1.0, others), (after.stolen - before.stolen) / total
