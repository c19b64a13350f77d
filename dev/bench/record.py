"""The record of a run, which `bench mixed --json` writes and `bench compare` reads."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from orderplane.dev.bench.costs import Costs
from orderplane.dev.bench.load import LoadResult
from orderplane.dev.bench.search import Trial, highest_held
from orderplane.dev.bench.yardstick import Yardstick
from orderplane.dev.localplane.paths import project_root


class Conditions(BaseModel):
    """When, where and with which code something was measured.

    Args:
        code: The commit, with `-dirty` where files were changed.
        machine: Its processor, cores and Python.
        gateways: Replicas of the gateway.
        before, after: The yardstick, before the plane was started and after it was removed.
    """

    model_config = ConfigDict(frozen=True)

    at: datetime
    code: str
    machine: str
    gateways: int
    before: Yardstick
    after: Yardstick

    @property
    def yardstick_seconds(self) -> float:
        """CPU seconds of the yardstick's work, the mean of before and after."""
        return (self.before.cpu_seconds + self.after.cpu_seconds) / 2


class LoadRecord(BaseModel):
    """One run, and what each kind of request costs if that was measured."""

    model_config = ConfigDict(frozen=True)

    conditions: Conditions
    load: LoadResult
    costs: Costs | None = None


class SearchRecord(BaseModel):
    """The runs of a search for the highest rate that holds; `share` and `seconds` are those of each run."""

    model_config = ConfigDict(frozen=True)

    conditions: Conditions
    share: float
    seconds: int
    trials: tuple[Trial, ...]

    @property
    def highest(self) -> int | None:
        """The highest rate that held, in requests a minute; None if none did."""
        return highest_held(self.trials)


class UnreadableRecord(ValueError):  # noqa: N818
    """A file holds no record of a run; the message says why."""


def read_record(file: Path) -> LoadRecord:
    """Read what `bench mixed --json FILE` has written.

    Raises:
        UnreadableRecord: there is no such file, or it holds something else.
    """
    try:
        return LoadRecord.model_validate_json(file.read_bytes())
    except OSError as problem:
        raise UnreadableRecord(f"{file} cannot be read: {problem.strerror}.") from problem
    except ValidationError as problem:
        first = problem.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise UnreadableRecord(
            f"{file} holds no record of `orderplane bench mixed --json FILE`: {place}: {first['msg']}."
        ) from problem


def conditions(gateways: int, before: Yardstick, after: Yardstick) -> Conditions:
    """Those of a run that has just ended."""
    version = ".".join(map(str, sys.version_info[:3]))
    return Conditions(
        at=datetime.now(UTC),
        code=_commit(),
        machine=f"{os.cpu_count()} cores, {_processor()}, Python {version}",
        gateways=gateways,
        before=before,
        after=after,
    )


def _commit() -> str:
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=project_root(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return described.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown processor")
