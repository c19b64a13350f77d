"""The keys that sign access tokens: a folder of PEM files, for example a mounted Secret.

To rotate keys, add a file whose name sorts last, wait until all tokens of the old key have expired, and
remove the old file. That needs no restart, and all users stay logged in.
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
"""RSA is accepted from OpenID Connect issuers; our own tokens are not signed with it."""

RELOAD_SECONDS = 10.0
PUBLISH_SECONDS = 60.0
"""How long a new key is published before it signs, so that clients that cache the key set have it by then."""

_MIN_RELOAD_SECONDS = 1.0


class SigningKeysMissing(Exception):  # noqa: N818
    """There is no usable key; the message says what to do."""


class KeyRing:
    """Every key in the folder verifies tokens; the last by name signs, after `PUBLISH_SECONDS`.

    Args:
        monotonic: Monotonic seconds.

    Raises:
        SigningKeysMissing: the folder has no usable key.
    """

    def __init__(self, folder: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._monotonic = monotonic
        self._keys: dict[str, Key] = {}
        self._names: dict[str, str] = {}
        self._published_at: dict[str, float] = {}
        self._loaded_at = monotonic()
        self._load(published_at=monotonic() - PUBLISH_SECONDS)
        if not self._keys:
            raise SigningKeysMissing(
                f"{folder} has no PEM file with a P-256 or Ed25519 key. "
                f"Make one: orderplane keys new {folder}"
            )

    @property
    def signing(self) -> Key:
        """The key for new tokens."""
        self._reload_if_older(RELOAD_SECONDS)
        now = self._monotonic()
        old_enough = [kid for kid in self._keys if now - self._published_at[kid] >= PUBLISH_SECONDS]
        return self._keys[max(old_enough or self._keys, key=lambda kid: self._names[kid])]

    def verifying(self, kid: str) -> Key | None:
        """The key with this id. An unknown id makes the folder be read again, but at most once a second."""
        self._reload_if_older(RELOAD_SECONDS if kid in self._keys else _MIN_RELOAD_SECONDS)
        return self._keys.get(kid)

    def public(self) -> dict[str, Any]:
        """The JSON Web Key Set (RFC 7517) of all public keys."""
        self._reload_if_older(RELOAD_SECONDS)
        return {"keys": [_public(kid, key) for kid, key in sorted(self._keys.items())]}

    def _reload_if_older(self, seconds: float) -> None:
        if self._monotonic() - self._loaded_at >= seconds:
            self._load(published_at=self._monotonic())

    def _load(self, published_at: float) -> None:
        self._loaded_at = self._monotonic()
        keys: dict[str, Key] = {}
        for file in sorted(self._folder.glob("*.pem")):
            key = _read(file)
            if key is not None:
                kid = key.thumbprint()
                keys[kid] = key
                self._names[kid] = file.name
                self._published_at.setdefault(kid, published_at)
        # An empty folder is one that is being replaced, as when a Secret is updated.
        if keys:
            self._keys = keys


def new_key(folder: Path) -> Path:
    """Write a new P-256 key, readable by its owner only, under a name that sorts last.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    content = generate_private_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}.pem"
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(content)
    return path


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
