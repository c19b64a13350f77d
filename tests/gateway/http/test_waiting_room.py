"""Who loses a place when there are too many."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from orderplane.gateway.http.waiting_room import Place, WaitingRoom


class Crowd:
    """Enters a room, and notes who lost a place."""

    def __init__(self, **bounds: int) -> None:
        self.room = WaitingRoom(**bounds)
        self.lost: list[str] = []

    def enter(self, name: str) -> Place:
        """A name is an address and a number."""
        return self.room.enter(name[0], lambda: self.lost.append(name))


def test_an_address_pushes_out_its_own_oldest() -> None:
    crowd = Crowd(per_address=2, total=10)
    for name in ("a1", "b1", "a2", "a3", "a4"):
        crowd.enter(name)
    assert crowd.lost == ["a1", "a2"]
    assert len(crowd.room) == 3


def test_the_address_with_most_loses_first() -> None:
    crowd = Crowd(per_address=10, total=4)
    for name in ("b1", "a1", "a2", "a3", "c1", "d1"):
        crowd.enter(name)
    assert crowd.lost == ["a1", "a2"]


def test_who_left_or_lost_makes_room_once() -> None:
    crowd = Crowd(per_address=1, total=10)
    first, second = crowd.enter("a1"), crowd.enter("a2")
    for place in (first, second, second):
        crowd.room.leave(place)
    assert len(crowd.room) == 0
    crowd.enter("a3")
    assert crowd.lost == ["a1"]


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), max_size=200))
def test_the_bounds_hold(steps: list[tuple[str, bool]]) -> None:
    room, held = WaitingRoom(per_address=3, total=10), Counter[str]()
    places: list[Place] = []
    for address, is_coming in steps:
        if is_coming:
            lost: list[str] = []
            places.append(room.enter(address, lambda lost=lost: lost.append("x")))  # type: ignore[misc]
        elif places:
            room.leave(places.pop(0))
        held = Counter({name: len(own) for name, own in room._places.items()})
        assert held.total() == len(room) <= 10
        assert max(held.values(), default=0) <= 3
