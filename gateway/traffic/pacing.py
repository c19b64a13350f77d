"""How many new orders may come at once, however short the line is."""

from collections.abc import Callable

LEAST_PACE = 11.0
"""Orders a second that the operator is trusted with before it has shown what it can."""
HEADROOM = 2.0
"""So many times the pace may come: a line has to be able to grow, or nobody would see how fast it can be."""
RUSH_SECONDS = 0.5
"""So long a time's worth may come in one moment."""


def allowed_pace(pace: float) -> float:
    """Orders a second that may come while `pace` a second leave."""
    return HEADROOM * max(pace, LEAST_PACE)


class Pacing:
    """A token bucket: each order takes one, and they come back at the allowed pace."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tokens = allowed_pace(0.0) * RUSH_SECONDS
        self._filled_at = clock()

    def is_free(self, pace: float) -> bool:
        """Whether one more may come now, while `pace` a second leave."""
        now, rate = self._clock(), allowed_pace(pace)
        self._tokens = min(rate * RUSH_SECONDS, self._tokens + (now - self._filled_at) * rate)
        self._filled_at = now
        return self._tokens >= 1

    def take(self) -> None:
        """One has come; where nobody asked whether it may, it leaves no debt to those who come later."""
        self._tokens = max(0.0, self._tokens - 1)

    def give_back(self) -> None:
        """The last one that came was none."""
        self._tokens += 1
