"""The yardstick: fixed work, timed before and after a run, by which machines and hours can be compared."""

import asyncio
import os
import statistics
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from orderplane.dev.bench.cpu import machine_clock, shares

_PROGRAM = Path(__file__).with_name("work.py")
_SECONDS = 300.0


class Timing(BaseModel):
    """What the work took one process.

    Args:
        work: The digest of what it computed.
        cpu_seconds: User and system time.
        wall_seconds: By the clock. Much more than `cpu_seconds` means that others used the core.
    """

    model_config = ConfigDict(frozen=True)

    work: str
    cpu_seconds: float
    wall_seconds: float


class Yardstick(BaseModel):
    """The work, done by one process alone and then by one process for each core at the same time.

    Args:
        together: The means of these. They are slower where two cores are the threads of one.
        busy: Share of the machine that others used while one process worked alone, 0 to 1.
    """

    model_config = ConfigDict(frozen=True)

    cores: int
    alone: Timing
    together: Timing
    busy: float

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of the work when all cores are busy, as they are in a benchmark."""
        return self.together.cpu_seconds


async def measure() -> Yardstick:
    """Do the work now: two to three seconds where nothing else runs.

    Raises:
        TimeoutError: it takes longer than five minutes.
    """
    cores = os.cpu_count() or 1
    async with asyncio.timeout(_SECONDS):
        before = machine_clock()
        alone = await _timed()
        busy, _ = shares(before, machine_clock(), own_seconds=alone.cpu_seconds)
        each = await asyncio.gather(*(_timed() for _ in range(cores)))
    together = Timing(
        work=alone.work,
        cpu_seconds=statistics.fmean(timing.cpu_seconds for timing in each),
        wall_seconds=statistics.fmean(timing.wall_seconds for timing in each),
    )
    return Yardstick(cores=cores, alone=alone, together=together, busy=busy)


async def _timed() -> Timing:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", str(_PROGRAM), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    try:
        answer, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Timing.model_validate_json(answer)
