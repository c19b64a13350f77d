"""The people that a load test acts as: real accounts, with tokens as if they had logged in."""

import asyncio
import contextlib
import json
import time
from pathlib import Path

from orderplane.dev.demo.catalogue import MERCHANT
from orderplane.dev.localplane.plane import Plane
from orderplane.gateway.identity.keyring import KeyRing
from orderplane.gateway.identity.tokens import TokenRules, issue
from orderplane.gateway.identity.user_store import EmailTaken, UserStore
from orderplane.gateway.principal import SCOPES_OF, Principal, Role
from orderplane.ledgers.postgres.session import Pool

STAFF_EVERY = 10
"""One in so many runs the shop."""


async def write_people(plane: Plane, pool: Pool, count: int, file: Path) -> None:
    """Make `count` accounts and write them down for k6: token, address and role of each.

    Nobody can log in as one of them: hashing hundreds of passwords would cost a minute and show nothing
    here. The tokens are the gateway's own, good for a quarter of an hour.
    """
    people = UserStore(pool)
    ring, rules = KeyRing(plane.signing_keys), TokenRules(plane.url("gateway"), "orderplane")
    written = []
    for number in range(count):
        role = Role.CUSTOMER if number % STAFF_EVERY else Role.MERCHANT
        caller = Principal(MERCHANT, f"u-load-{number}", role, SCOPES_OF[role])
        # A run before this one may have made them.
        with contextlib.suppress(EmailTaken):
            await people.add(
                MERCHANT, caller.name, email=f"load-{number}@example.test", password_hash="", role=role.value
            )
        token = issue(ring, rules, caller, client_id="load", now=int(time.time())).token
        address = f"198.18.{number // 250}.{number % 250 + 1}"
        written.append({"token": token, "address": address, "role": role.value})
    await asyncio.to_thread(file.write_text, json.dumps(written))
