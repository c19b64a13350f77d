"""The two kinds of failure that a controller has to distinguish: `Transient` and `Refused`.

Adapters map the exceptions of their systems to these; controllers decide by these types alone.
"""

from orderplane.crds.reasons import Reason


class Transient(Exception):  # noqa: N818
    """The effect was not carried out; trying again later may work.

    Args:
        reason: For a condition, a log line or a metric.
        message: What happened, to what, and what will be done; ids only, never personal data.
        retry_after: Seconds that the other side asked to wait, None where it did not.
        is_final: Only a person can help: the key is stalled at once.
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
    """It is unknown whether the effect was carried out (a timeout, a lost connection, a 5xx).

    Never repeat the call without asking the other side for its state first.
    """


class Refused(Exception):  # noqa: N818
    """The other side refused for good; trying again cannot help.

    Args:
        reason: For conditions and events.
        message: A sentence that a customer may read.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class NothingToSettle(Exception):  # noqa: N818
    """Nothing of an order can be settled by hand; the message says why, and what to do instead."""


class GateClosed(Exception):  # noqa: N818
    """The order's gate is not in a state that admits this effect; nothing was done."""
