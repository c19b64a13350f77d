"""Who is asking."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request


@dataclass(frozen=True, slots=True)
class Principal:
    """One caller of one merchant. Idempotency keys are theirs alone."""

    merchant: str
    name: str


async def principal(request: Request) -> Principal:
    """The caller; the fixed one until identities exist, which is why the door opens on loopback only."""
    return Principal(merchant=request.app.state.settings.merchant, name="demo")


PrincipalDep = Annotated[Principal, Depends(principal)]
