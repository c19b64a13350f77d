"""Several relays share the lanes fairly, whatever comes and goes."""

from hypothesis import given
from hypothesis import strategies as st

from orderplane.workers.relay.partitions import Change, fair_share, share_out

LANES = 16
owners = st.lists(st.integers(min_value=0, max_value=5), min_size=LANES, max_size=LANES)


def step(held, name):
    """What one relay does about its lanes, as the locks allow it."""
    mine = held[name]
    taken = set().union(*held.values())
    change = share_out(mine, taken, len(held), LANES)
    mine.difference_update(change.release)
    for lane in change.claim:
        if not any(lane in lanes for lanes in held.values()):
            mine.add(lane)
    return change


@given(st.integers(1, 40), st.integers(1, 40))
def test_shares_cover_all_lanes(lanes, relays):
    share = fair_share(lanes, relays)
    assert share * relays >= lanes
    assert (share - 1) * relays < lanes


@given(st.integers(1, 20), owners, st.data())
def test_any_beginning_ends_with_every_lane_served_fairly(relays, beginning, data):
    held = {name: set() for name in range(relays)}
    for lane, owner in enumerate(beginning):
        if owner in held:
            held[owner].add(lane)
    for _ in range(3):
        for name in data.draw(st.permutations(range(relays))):
            step(held, name)
    served = [lane for lanes in held.values() for lane in lanes]
    assert sorted(served) == list(range(LANES))
    assert max(map(len, held.values())) <= fair_share(LANES, relays)
    assert all(step(held, name) == Change() for name in range(relays))


def test_one_alone_takes_all():
    assert share_out(set(), set(), 1, LANES).claim == tuple(range(LANES))


def test_a_newcomer_is_made_room_for():
    assert share_out(set(range(16)), set(range(16)), 2, LANES) == Change(release=tuple(range(8, 16)))


def test_what_a_dead_one_left_is_taken():
    assert share_out({0, 1}, {0, 1}, 1, 4) == Change(claim=(2, 3))
