"""How many streams one caller, and all together, may have open at one gateway."""

from collections import Counter

from orderplane.gateway.http.problems import Problem, unavailable

OF_A_CUSTOMER = 10
OF_A_SHOP = 200
"""Of one caller who acts for a whole shop: a back end may follow each order on its own."""

RETRY_SECONDS = 10


class StreamPlaces:
    """Places for streams.

    Args:
        total: For all callers together.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken: Counter[tuple[str, str]] = Counter()
        self._is_closed = False

    def enter(self, merchant: str, name: str, *, is_shop: bool) -> None:
        """Take a place for a caller; `leave` gives it back.

        Args:
            is_shop: The caller acts for the whole shop.

        Raises:
            Problem: `too_many_streams`: the caller has all of theirs; `overloaded`: no place is left, or this
                gateway is about to end.
        """
        if self._is_closed:
            raise unavailable("This gateway is about to end. Repeat the request.", code="overloaded")
        if self._taken.total() >= self._total:
            detail = f"{self._total} streams are open at this gateway. Repeat the request later."
            raise unavailable(detail, RETRY_SECONDS, code="overloaded")
        most = OF_A_SHOP if is_shop else OF_A_CUSTOMER
        if self._taken[merchant, name] >= most:
            raise Problem(
                "too_many_streams",
                f"You have {most} streams open at this gateway, which is the most. End one of them first, or "
                "follow several orders in one stream (GET /api/orders/watch).",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )
        self._taken[merchant, name] += 1

    def leave(self, merchant: str, name: str) -> None:
        """Undo `enter`."""
        self._taken[merchant, name] -= 1
        if not self._taken[merchant, name]:
            del self._taken[merchant, name]

    def close(self) -> None:
        """Give out no more places."""
        self._is_closed = True
