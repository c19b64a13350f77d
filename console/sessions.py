"""Who is signed in: sessions in the memory of this process (docs/decisions/0033-console.md)."""

import hashlib
import hmac
import secrets
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client import Gauge

from orderplane.client.client import Client

MOST = 1_000
"""The one that was used longest ago ends first."""

IDLE_SECONDS = 3_600.0
LIFETIME_SECONDS = 12 * 3_600.0

SESSIONS = Gauge("orderplane_console_sessions", "People who are signed in at the console.")


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence for the next page, on what was done or refused."""

    text: str
    kind: Literal["done", "refused"] = "done"


@dataclass(slots=True)
class Session:
    """One person who is signed in.

    Args:
        client: Asks the API as this person.
        log_out: Ends the login, too.
        user: How they are called on the pages.
        is_admin: Whether they may see accounts.
        started_at, used_at: Seconds of a clock that never goes back.
    """

    client: Client
    log_out: Callable[[], Awaitable[None]]
    user: str
    merchant: str
    is_admin: bool
    started_at: float
    used_at: float
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    notices: deque[Notice] = field(default_factory=lambda: deque(maxlen=5))

    def is_own_form(self, token: str | None) -> bool:
        """Whether a form that has this token was made for this session."""
        return token is not None and hmac.compare_digest(token.encode(), self.csrf.encode())


class Sessions:
    """All sessions, by the hash of their identifier: who reads the memory by accident has no identifier.

    Args:
        monotonic: Seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._known: OrderedDict[bytes, Session] = OrderedDict()
        SESSIONS.set_function(self._known.__len__)

    def begin(
        self,
        client: Client,
        log_out: Callable[[], Awaitable[None]],
        *,
        user: str,
        merchant: str,
        is_admin: bool,
    ) -> str:
        """Begin a session; returns its identifier, which nobody had before."""
        identifier, now = secrets.token_urlsafe(32), self._monotonic()
        self._known[_hash(identifier)] = Session(client, log_out, user, merchant, is_admin, now, now)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        return identifier

    def find(self, identifier: str | None) -> Session | None:
        """The session of a cookie, which is used by this; None if there is none, or not any more."""
        if not identifier:
            return None
        key, now = _hash(identifier), self._monotonic()
        session = self._known.get(key)
        if session is None:
            return None
        if now - session.used_at > IDLE_SECONDS or now - session.started_at > LIFETIME_SECONDS:
            del self._known[key]
            return None
        session.used_at = now
        self._known.move_to_end(key)
        return session

    def end(self, identifier: str | None) -> Session | None:
        """Forget a session; returns it if it was there."""
        return self._known.pop(_hash(identifier), None) if identifier else None

    def holds(self, session: Session) -> bool:
        """Whether it has not ended; a stream asks, which uses it for hours."""
        return (
            any(each is session for each in self._known.values())
            and self._monotonic() - session.started_at <= LIFETIME_SECONDS
        )


def _hash(identifier: str) -> bytes:
    return hashlib.sha256(identifier.encode()).digest()
