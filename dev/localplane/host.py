"""The background process that runs a plane: `python -m orderplane.dev.localplane.host`."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from orderplane.dev.localplane.plane import ALL, Plane, PlaneSpec, remove
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.localplane.supervisor import StartFailed
from orderplane.dev.localplane.tools import ToolMissing


async def host(state: Path, spec: PlaneSpec) -> None:
    """Run a plane until SIGTERM, which also ends one that is still starting."""
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(_keep_up(state, spec))
    for number in (signal.SIGINT, signal.SIGTERM):
        # A second signal must not interrupt the shutdown.
        loop.add_signal_handler(number, lambda: work.cancelling() or work.cancel())
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def _keep_up(state: Path, spec: PlaneSpec) -> None:
    async with Plane.start(state, spec, ConsoleProgress()) as plane:
        _redirect_output(plane.state / "logs" / "host.log")
        await asyncio.Event().wait()


def _redirect_output(log: Path) -> None:
    """Write to a log file from now on: the terminal belongs to the command that started this process."""
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def main() -> int:
    """Run a plane; returns 1 if it cannot be started."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--kafka")
    parser.add_argument("--no-kafka", action="store_true")
    parser.add_argument("--dsn")
    parser.add_argument("--gateways", type=int, default=1)
    given = parser.parse_args()
    spec = PlaneSpec(
        processes=ALL,
        kafka=given.kafka or not given.no_kafka,
        dsn=given.dsn,
        gateways=given.gateways,
    )
    try:
        asyncio.run(host(given.state_dir, spec))
    except (ToolMissing, StartFailed) as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    finally:
        remove(given.state_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
