"""A bound on what waits for its client: for a request, for the rest of a body, or until an answer is read."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Place:
    """The place of one that waits; `give_up` is called when it loses the place to another."""

    address: str
    give_up: Callable[[], None]


class WaitingRoom:
    """Places for at most `per_address` of one address and `total` of all.

    Everybody gets in. Who exceeds a bound takes the place of the one that has waited longest: of the same
    address, or of the address that has most places. So a crowd from one address pushes out itself.
    """

    def __init__(self, *, per_address: int, total: int) -> None:
        self._per_address = per_address
        self._total = total
        self._places: dict[str, dict[Place, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def enter(self, address: str, give_up: Callable[[], None]) -> Place:
        """Take a place; `leave` gives it back."""
        place = Place(address, give_up)
        own = self._places.setdefault(address, {})
        own[place] = None
        self._count += 1
        if len(own) > self._per_address:
            self._push_out(own)
        elif self._count > self._total:
            self._push_out(max(self._places.values(), key=len))
        return place

    def leave(self, place: Place) -> None:
        """Give the place back; nothing happens if it was lost."""
        own = self._places.get(place.address, {})
        if place not in own:
            return
        del own[place]
        self._count -= 1
        if not own:
            del self._places[place.address]

    def _push_out(self, places: dict[Place, None]) -> None:
        longest = next(iter(places))
        self.leave(longest)
        longest.give_up()
