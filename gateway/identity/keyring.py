"""The keys that sign access tokens: a folder of PEM files, as a mounted Secret is one.

To rotate: add a file whose name sorts last, wait until every token of the old key has run out, remove the
old file. No process is restarted, and nobody is logged out.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from joserfc.jwk import ECKey, OKPKey, RSAKey

log = structlog.get_logger(__name__)

Key = ECKey | OKPKey
VerifyingKey = Key | RSAKey
"""RSA is for issuers outside; we do not sign with it."""

LOOK_SECONDS = 10.0
AHEAD_SECONDS = 60.0
"""How long a new key is published before it signs: whoever keeps our key set for a while has it by then."""

_LOOK_AT_MOST_EVERY = 1.0


class SigningKeysMissing(Exception):  # noqa: N818
    """There is no key to sign with; the message says what to do."""


class KeyRing:
    """Every key of the folder verifies; the last by name signs, once it was published long enough.

    Args:
        clock: Monotonic seconds.

    Raises:
        SigningKeysMissing: the folder has no usable key.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._keys: dict[str, Key] = {}
        self._names: dict[str, str] = {}
        self._since: dict[str, float] = {}
        self._looked_at = clock()
        self._load(since=clock() - AHEAD_SECONDS)
        if not self._keys:
            raise SigningKeysMissing(
                f"{folder} has no PEM file with a P-256 or Ed25519 key. "
                f"Make one: orderplane keys new {folder}"
            )

    @property
    def signing(self) -> Key:
        """The key for new tokens."""
        self._look(LOOK_SECONDS)
        old_enough = [kid for kid in self._keys if self._clock() - self._since[kid] >= AHEAD_SECONDS]
        return self._keys[max(old_enough or self._keys, key=lambda kid: self._names[kid])]

    def verifying(self, kid: str) -> Key | None:
        """The key of that id; an unknown one is looked for in the folder, but not at every request."""
        self._look(LOOK_SECONDS if kid in self._keys else _LOOK_AT_MOST_EVERY)
        return self._keys.get(kid)

    def public(self) -> dict[str, Any]:
        """The JSON Web Key Set (RFC 7517) with what verifies."""
        self._look(LOOK_SECONDS)
        return {"keys": [_public(kid, key) for kid, key in sorted(self._keys.items())]}

    def _look(self, seconds: float) -> None:
        if self._clock() - self._looked_at >= seconds:
            self._load(since=self._clock())

    def _load(self, since: float) -> None:
        self._looked_at = self._clock()
        keys: dict[str, Key] = {}
        for file in sorted(self._folder.glob("*.pem")):
            key = _read(file)
            if key is not None:
                kid = key.thumbprint()
                keys[kid] = key
                self._names[kid] = file.name
                self._since.setdefault(kid, since)
        # A folder that is empty for a moment is one that is being written.
        if keys:
            self._keys = keys


def new_key(folder: Path) -> Path:
    """Write a new P-256 key under a name that sorts last; only its owner may read it.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    content = generate_private_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    made = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}.pem"
    made.touch(mode=0o600, exist_ok=False)
    made.write_bytes(content)
    return made


def algorithm_of(key: Key) -> str:
    """ES256 (RFC 7518) or Ed25519 (RFC 9864)."""
    return "ES256" if isinstance(key, ECKey) else "Ed25519"


def _read(file: Path) -> Key | None:
    try:
        content = file.read_bytes()
        found = load_pem_private_key(content, password=None)
    except (OSError, TypeError, ValueError) as problem:
        log.warning("not a private key", file=file.name, why=type(problem).__name__)
        return None
    match found:
        case EllipticCurvePrivateKey(curve=SECP256R1()):
            return ECKey.import_key(content)
        case Ed25519PrivateKey():
            return OKPKey.import_key(content)
    log.warning("neither a P-256 nor an Ed25519 key", file=file.name)
    return None


def _public(kid: str, key: Key) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": kid, "use": "sig", "alg": algorithm_of(key)}
