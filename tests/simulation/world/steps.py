"""Where a simulated run can be interrupted: before and after every effect of every port."""

import types
from collections.abc import Generator


@types.coroutine
def point(label: str) -> Generator[str, None, None]:
    """Hand control to the scheduler, which may go on, do something else first, or crash the process here."""
    yield label
