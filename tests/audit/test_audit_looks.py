"""What changes between two looks is under way; only what stays is a violation."""

from collections.abc import Awaitable, Callable, Sequence
from time import process_time

from orderplane.audit.snapshot import Snapshot
from orderplane.audit.verdict import audit, judge

from .books import Books, clean_books


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
        {"merchant": "shop", "order_name": f"promised-{number}", "status": 202}
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


def test_the_work_grows_with_the_books_and_no_faster() -> None:
    def seconds(orders: int) -> float:
        books = clean_books()
        for table, rows in books.tables.items():
            if table not in ("stock", "movements", "reservation_lines"):
                books.tables[table] = [row for row in rows for _ in range(orders)]
        books.messages = [message for message in books.messages for _ in range(orders)]
        started = process_time()
        judge(books.snapshot())
        return process_time() - started

    # Quadratic work would take a hundred times as long.
    assert seconds(1000) < 40 * max(seconds(100), 0.005)
