"""Which partitions a relay serves when several share them, and which rows of a batch it may send."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderplane.workers.relay.plan import (
    PartitionChange,
    fair_share,
    rebalance,
    sequential_batches,
    split_sendable,
)

OUTBOX_PARTITIONS = 16
owners = st.lists(
    st.integers(min_value=0, max_value=5), min_size=OUTBOX_PARTITIONS, max_size=OUTBOX_PARTITIONS
)


def step(held, name):
    """What one relay does about its partitions, as the locks allow it."""
    mine = held[name]
    taken = set().union(*held.values())
    change = rebalance(mine, taken, len(held), OUTBOX_PARTITIONS)
    mine.difference_update(change.release)
    for partition in change.claim:
        if not any(partition in partitions for partitions in held.values()):
            mine.add(partition)
    return change


@given(st.integers(1, 40), st.integers(1, 40))
def test_shares_cover_all_partitions(partitions, relays):
    share = fair_share(partitions, relays)
    assert share * relays >= partitions
    assert (share - 1) * relays < partitions


@given(st.integers(1, 20), owners, st.data())
def test_any_beginning_ends_with_every_partition_served_fairly(relays, beginning, data):
    held = {name: set() for name in range(relays)}
    for partition, owner in enumerate(beginning):
        if owner in held:
            held[owner].add(partition)
    for _ in range(3):
        for name in data.draw(st.permutations(range(relays))):
            step(held, name)
    served = [partition for partitions in held.values() for partition in partitions]
    assert sorted(served) == list(range(OUTBOX_PARTITIONS))
    assert max(map(len, held.values())) <= fair_share(OUTBOX_PARTITIONS, relays)
    assert all(step(held, name) == PartitionChange() for name in range(relays))


def test_one_alone_takes_all():
    assert rebalance(set(), set(), 1, OUTBOX_PARTITIONS).claim == tuple(range(OUTBOX_PARTITIONS))


def test_a_newcomer_is_made_room_for():
    assert rebalance(set(range(16)), set(range(16)), 2, OUTBOX_PARTITIONS) == PartitionChange(
        release=tuple(range(8, 16))
    )


def test_what_a_dead_one_left_is_taken():
    assert rebalance({0, 1}, {0, 1}, 1, 4) == PartitionChange(claim=(2, 3))


rows = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 12)), unique=True, max_size=40).map(
    lambda pairs: [{"subject": UUID(int=subject), "seq": seq} for subject, seq in pairs]
)


@given(rows)
def test_batches_keep_every_row_and_the_order_of_each_subject(batch):
    result = sequential_batches(batch)
    flat = [row for each in result for row in each]
    assert sorted(map(id, flat)) == sorted(map(id, batch))
    assert all(result)
    for each in result:
        subjects = [row["subject"] for row in each]
        assert len(set(subjects)) == len(subjects)
    for subject in {row["subject"] for row in batch}:
        numbers = [row["seq"] for row in flat if row["subject"] == subject]
        assert numbers == sorted(numbers)


@given(rows)
def test_no_more_batches_than_the_longest_subject_needs(batch):
    longest = max((sum(row["subject"] == each["subject"] for row in batch) for each in batch), default=0)
    assert len(sequential_batches(batch)) == longest


def a_row(seq, *, subject=1, type_="order.created", data="{}"):
    return {"subject": UUID(int=subject), "seq": seq, "type": type_, "data": data}


def test_what_cannot_go_out_cuts_only_its_own_subject_short():
    first, unheard, third = a_row(1), a_row(2, type_="order.unheard"), a_row(3)
    other = a_row(1, subject=2)
    fit, blocked = split_sendable([third, unheard, first, other], 100)
    assert first in fit
    assert other in fit
    assert len(fit) == 2
    assert blocked == [(unheard, "unknown_type")]


@pytest.mark.parametrize(("largest", "is_refused"), [(7, True), (8, False)])
def test_size_is_counted_in_bytes(largest, is_refused):
    row = a_row(1, data='"ééé"')
    assert split_sendable([row], largest) == (([], [(row, "too_large")]) if is_refused else ([row], []))
