"""Who asked for something: what proves it, and the id by which they are known there, as one string.

    user:u-3k9x2m7qpl5v8r4t    an account of the gateway, by its access token
    service:c-7d1m             a service, by its access token
    kubernetes:ada             whom the API server has authenticated
    database:orderplane        the role of a session of PostgreSQL

Nobody can be taken for another: each is set by what has checked the caller, never by the caller
(docs/decisions/0028-who-did-it.md).
"""

import hashlib
import re
from enum import StrEnum

PSEUDONYM = re.compile(r"sub-[0-9a-f]{32}")
_PLAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._:/-]{0,126}[A-Za-z0-9])?")


class ActorKind(StrEnum):
    """What has checked who it is."""

    USER = "user"
    SERVICE = "service"
    KUBERNETES = "kubernetes"
    DATABASE = "database"


def actor_of(kind: ActorKind, name: str) -> str:
    """The string for somebody; a name that is no plain id, such as an e-mail address, is not shown in it."""
    is_plain = _PLAIN.fullmatch(name) and not PSEUDONYM.fullmatch(name)
    return f"{kind}:{name if is_plain else pseudonym(name)}"


def read_actor(annotation: str | None) -> str | None:
    """The string for whom an annotation names, as `kind:name`; None where it names nobody."""
    kind, _, name = (annotation or "").partition(":")
    return actor_of(ActorKind(kind), name) if name and kind in set(ActorKind) else None


def pseudonym(name: str) -> str:
    """An id in place of a name that is personal data: who knows the name can compute it."""
    return f"sub-{hashlib.sha256(name.encode()).hexdigest()[:32]}"
