"""Several relays share the partitions fairly, whatever comes and goes."""

from hypothesis import given
from hypothesis import strategies as st

from orderplane.workers.relay.partitions import Change, fair_share, share_out

OUTBOX_PARTITIONS = 16
owners = st.lists(
    st.integers(min_value=0, max_value=5), min_size=OUTBOX_PARTITIONS, max_size=OUTBOX_PARTITIONS
)


def step(held, name):
    """What one relay does about its partitions, as the locks allow it."""
    mine = held[name]
    taken = set().union(*held.values())
    change = share_out(mine, taken, len(held), OUTBOX_PARTITIONS)
    mine.difference_update(change.release)
    for partition in change.claim:
        if not any(partition in partitions for partitions in held.values()):
            mine.add(partition)
    return change


@given(st.integers(1, 40), st.integers(1, 40))
def test_shares_cover_all_lanes(partitions, relays):
    share = fair_share(partitions, relays)
    assert share * relays >= partitions
    assert (share - 1) * relays < partitions


@given(st.integers(1, 20), owners, st.data())
def test_any_beginning_ends_with_every_lane_served_fairly(relays, beginning, data):
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
    assert all(step(held, name) == Change() for name in range(relays))


def test_one_alone_takes_all():
    assert share_out(set(), set(), 1, OUTBOX_PARTITIONS).claim == tuple(range(OUTBOX_PARTITIONS))


def test_a_newcomer_is_made_room_for():
    assert share_out(set(range(16)), set(range(16)), 2, OUTBOX_PARTITIONS) == Change(
        release=tuple(range(8, 16))
    )


def test_what_a_dead_one_left_is_taken():
    assert share_out({0, 1}, {0, 1}, 1, 4) == Change(claim=(2, 3))
