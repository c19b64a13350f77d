"""Fault injection: for some time, a share of the requests fails in a chosen way."""

import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Mode(StrEnum):
    """How a request fails."""

    OK = "ok"
    ERROR_500 = "error500"
    HANG = "hang"  # no reply
    REFUSE_429 = "refuse429"  # refused before anything is done


@dataclass(slots=True)
class Faults:
    """The faults that are injected now.

    Args:
        until: When this ends, as unix time.
        share: Share of all requests that fail, reads included, 0 to 1.
        after_effect: Carry out the request first, then fail.
    """

    mode: StrEnum = Mode.OK
    until: float = 0.0
    share: float = 1.0
    after_effect: bool = False
    _random: random.Random = field(default_factory=random.Random)

    def draw(self, now: float) -> StrEnum:
        """Draw whether and how the current request fails."""
        if self.mode == Mode.OK or now >= self.until or self._random.random() >= self.share:
            return Mode.OK
        return self.mode

    def describe(self, now: float) -> dict[str, Any]:
        """As JSON."""
        is_over = self.mode == Mode.OK or now >= self.until
        return {
            "mode": Mode.OK if is_over else self.mode,
            "seconds": 0.0 if is_over else round(self.until - now, 3),
            "share": self.share,
            "after_effect": self.after_effect,
        }


def read_faults(document: Any, now: float, modes: type[StrEnum] = Mode) -> Faults:
    """Read `{"mode", "seconds", "share", "seed", "after_effect"}`.

    Args:
        modes: The possible faults; one of them is `ok`.

    Raises:
        ValueError: a value is wrong; the message says which.
    """
    if not isinstance(document, dict):
        raise ValueError("send a JSON object with mode, seconds, share, seed and after_effect")
    try:
        seconds = float(document.get("seconds", 60.0))
        share = float(document.get("share", 1.0))
    except TypeError as problem:
        raise ValueError("seconds and share have to be numbers") from problem
    if not 0 < seconds <= 3600 or not 0 <= share <= 1:
        raise ValueError("seconds has to be above 0 and at most 3600, share from 0 to 1")
    return Faults(
        mode=modes(document.get("mode", Mode.OK)),
        until=now + seconds,
        share=share,
        after_effect=document.get("after_effect") is True,
        _random=random.Random(document.get("seed")),
    )
