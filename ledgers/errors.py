"""The two families of failure that a controller has to tell apart.

Adapters map their systems' exceptions to these, once, in one place; everything further in
decides by these types alone.
"""

from orderplane.crds.reasons import Reason


class Transient(Exception):  # noqa: N818 - it is a verdict, not an error class
    """The effect was not carried out; trying again later may work.

    Args:
        reason: For a condition, a log line or a metric.
        message: What happened, to what, and what will be done; ids only, never personal data.
        retry_after: Seconds the other side asked us to wait, when it said so.
        is_final: Only a person can help; park at once.
    """

    def __init__(
        self, reason: Reason, message: str, retry_after: float | None = None, *, is_final: bool = False
    ) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        self.is_final = is_final


class Unclear(Transient):
    """Nobody knows whether the effect was carried out (a time-out, a lost connection, a 5xx).

    Never repeat the call on this alone: look at the other side first.
    """


class Refused(Exception):  # noqa: N818
    """The other side said no, for good; trying again cannot help.

    Args:
        reason: For conditions and events.
        message: A sentence that a customer may read.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class GateClosed(Exception):  # noqa: N818
    """The order's row is not in a state that admits this effect; nothing was done."""
