"""What changes between two looks is under way; only what stays is a violation."""

import gc
from collections.abc import Awaitable, Callable, Iterator, Sequence
from time import process_time

import pytest

from orderplane.audit.snapshot import Snapshot
from orderplane.audit.verdict import audit, judge

from .books import Books, big_books, clean_books


def looks(snapshots: Sequence[Snapshot]) -> tuple[Callable[[], Awaitable[Snapshot]], list[int]]:
    """Each look sees the next of `snapshots`, at last always the last; also answers the looks so far."""
    taken: list[int] = []

    async def take() -> Snapshot:
        taken.append(min(len(taken), len(snapshots) - 1))
        return snapshots[taken[-1]]

    return take, taken


def spoiled(number: int = 0) -> Books:
    books = clean_books()
    books.tables["idempotency"].append(
        {"merchant": "shop", "kind": "Order", "name": f"promised-{number}", "status": 202}
    )
    return books


async def test_clean_at_once_is_looked_at_once() -> None:
    take, taken = looks([clean_books().snapshot()])
    assert (await audit(take, pause_seconds=0)).is_clean
    assert len(taken) == 1


async def test_what_goes_away_is_not_told() -> None:
    take, taken = looks([spoiled().snapshot(), clean_books().snapshot()])
    assert (await audit(take, pause_seconds=0)).is_clean
    assert len(taken) == 2


async def test_what_changes_with_every_look_is_not_told() -> None:
    take, _ = looks([spoiled(number).snapshot() for number in range(4)])
    assert (await audit(take, pause_seconds=0)).is_clean


async def test_what_stays_is_told_after_the_last_look() -> None:
    take, taken = looks([spoiled().snapshot()])
    verdict = await audit(take, passes=3, pause_seconds=0)
    assert [violation.subject for violation in verdict.violations] == ["shop/promised-0"]
    assert len(taken) == 3


@pytest.fixture
def without_collector() -> Iterator[None]:
    """A collection walks through all that earlier tests have left: that is not the work that is measured."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
def test_the_work_grows_with_the_orders_and_no_faster() -> None:
    def seconds(copies: int) -> float:
        snapshot = big_books(copies).snapshot()
        started = process_time()
        verdict = judge(snapshot)
        taken = process_time() - started
        assert verdict.is_clean
        assert verdict.counts["orders"] == 10 * copies
        return taken

    few, many = (min(seconds(copies) for _ in range(3)) for copies in (63, 630))
    # 500 orders, then 5,000: quadratic work would take a hundred times as long.
    assert many < 30 * few, f"{few:.3f} s, then {many:.3f} s"
