"""The yardstick does the same work everywhere, and says how busy the machine was."""

import json
import subprocess
import sys

import pytest

from orderplane.dev.bench import work, yardstick
from orderplane.dev.bench.cpu import MachineClock, Reading, by_process, machine_clock, shares, usage


def test_the_work_is_the_same_everywhere_and_grows_with_its_rounds() -> None:
    assert work.work(100) == "edb73a0f85dd7f78"
    assert work.work(100) != work.work(101)


def test_the_program_needs_nothing_but_the_standard_library() -> None:
    answer = subprocess.run(
        [sys.executable, "-I", "-S", work.__file__], capture_output=True, text=True, timeout=60, check=True
    )
    timing = json.loads(answer.stdout)
    assert timing["work"] == work.work()
    assert 0 < timing["cpu_seconds"] <= timing["wall_seconds"] * 1.05


async def test_it_is_timed_alone_and_on_all_cores() -> None:
    measured = await yardstick.measure()
    assert measured.alone.work == measured.together.work == work.work()
    assert measured.cpu_seconds == measured.together.cpu_seconds > 0
    assert 0 <= measured.busy <= 1
    assert yardstick.Yardstick.model_validate_json(measured.model_dump_json()) == measured


@pytest.mark.parametrize(
    ("busy", "stolen", "total", "own", "expected"),
    [
        (5.0, 0.0, 20.0, 5.0, (0.0, 0.0)),
        (8.0, 2.0, 20.0, 5.0, (0.15, 0.1)),
        (4.0, 0.0, 20.0, 5.0, (0.0, 0.0)),  # ticks are rounded
        (0.0, 0.0, 0.0, 5.0, (0.0, 0.0)),
    ],
)
def test_shares_of_the_machine(
    busy: float, stolen: float, total: float, own: float, expected: tuple[float, float]
) -> None:
    before = MachineClock(100.0, 7.0, 500.0)
    after = MachineClock(100.0 + busy, 7.0 + stolen, 500.0 + total)
    assert shares(before, after, own_seconds=own) == pytest.approx(expected)


def test_the_clock_of_the_machine_goes_on() -> None:
    before, after = machine_clock(), machine_clock()
    assert 0 < before.busy < before.total <= after.total


def test_what_was_used_between_two_readings() -> None:
    before = Reading(10.0, {"gateway": 5.0, "etcd": 1.0}, MachineClock(0.0, 0.0, 0.0))
    after = Reading(
        20.0, {"gateway": 7.0, "etcd": 1.5, "gateway-2": 1.0, "k6": 0.5}, MachineClock(6.0, 2.0, 20.0)
    )
    used = usage(before, after)
    assert used.cpu_seconds == {"gateway": 2.0, "etcd": 0.5, "gateway-2": 1.0, "k6": 0.5}
    assert next(iter(used.cores.items())) == ("gateway", 0.2)
    assert by_process(used.cpu_seconds)["gateway"] == 3.0
    assert (used.others, used.stolen) == pytest.approx((0.1, 0.1))
