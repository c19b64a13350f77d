"""Signing keys are rotated without logging anybody out."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from orderplane.gateway.identity.keyring import (
    PUBLISH_SECONDS,
    RELOAD_SECONDS,
    KeyRing,
    SigningKeysMissing,
    new_key,
)
from orderplane.gateway.identity.tokens import TokenRules, UnknownKey, issue, principal_of, verify_signature
from orderplane.gateway.principal import Principal

from ...support.mounted import MountedSecret

RULES = TokenRules("https://orders.example", "orderplane")
ADA = Principal("demo", "u-ada")


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def token(ring: KeyRing) -> str:
    return issue(ring, RULES, ADA, client_id="c", now=0).token


def is_taken(ring: KeyRing, text: str) -> bool:
    try:
        return principal_of(verify_signature(text, ring.verifying), RULES, 0) == ADA
    except UnknownKey:
        return False


def test_a_key_is_its_owners_alone(tmp_path: Path) -> None:
    made = new_key(tmp_path / "keys")
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700


def test_a_rotation_logs_nobody_out(tmp_path: Path, clock: Clock) -> None:
    old_file = new_key(tmp_path)
    gateways = [KeyRing(tmp_path, clock), KeyRing(tmp_path, clock)]
    old = token(gateways[0])
    new_key(tmp_path)
    clock.now += RELOAD_SECONDS
    for door in gateways:
        # Published at once, and not used before those who keep the key set have it.
        assert len(door.public()["keys"]) == 2
        assert token(door).split(".")[0] == old.split(".")[0]
    clock.now += PUBLISH_SECONDS
    new = token(gateways[0])
    assert new.split(".")[0] != old.split(".")[0]
    assert all(is_taken(door, text) for door in gateways for text in (old, new))
    old_file.unlink()
    clock.now += RELOAD_SECONDS
    assert not any(is_taken(door, old) for door in gateways)
    assert all(is_taken(door, new) for door in gateways)


def test_a_mounted_secret_is_replaced_under_load(tmp_path: Path, clock: Clock) -> None:
    """The key that is taken away has signed nothing any more for as long as tokens live."""
    keys = [new_key(tmp_path / "made") for _ in range(2)]
    first, second = ({key.name: key.read_bytes()} for key in keys)
    mounted = MountedSecret(tmp_path / "mounted", first)
    ring = KeyRing(mounted.folder, clock)
    taken = []
    for files in (first, {**first, **second}, {**first, **second}, second):
        mounted.replace(files)
        for _ in range(20):
            clock.now += PUBLISH_SECONDS / 10
            taken.append(is_taken(ring, token(ring)))
    assert all(taken)
    assert [key["kid"] for key in ring.public()["keys"]] == [ring.signing.thumbprint()]


def test_a_key_that_another_gateway_had_first_is_looked_for_at_once(tmp_path: Path, clock: Clock) -> None:
    new_key(tmp_path)
    slow = KeyRing(tmp_path, clock)
    clock.now += 2
    new_key(tmp_path)
    started_later = KeyRing(tmp_path, clock)
    assert is_taken(slow, token(started_later))


def test_unknown_keys_do_not_make_it_read_the_folder_all_the_time(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_key(tmp_path)
    ring = KeyRing(tmp_path, clock)
    reads: list[float] = []

    def count(published_at: float) -> None:
        reads.append(published_at)

    monkeypatch.setattr(ring, "_load", count)
    clock.now += 5
    assert ring.verifying("unknown") is None
    assert len(reads) == 1
    ring._loaded_at = clock.now
    for _ in range(100):
        assert ring.verifying("unknown") is None
    assert len(reads) == 1


def test_a_folder_that_is_being_written_keeps_the_keys(tmp_path: Path, clock: Clock) -> None:
    made = new_key(tmp_path)
    ring = KeyRing(tmp_path, clock)
    text = token(ring)
    made.rename(tmp_path / "moved")
    clock.now += RELOAD_SECONDS
    assert is_taken(ring, text)


def test_no_key_at_all_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SigningKeysMissing, match="orderplane keys new"):
        KeyRing(tmp_path)
    for name, key in (
        ("rsa", rsa.generate_private_key(65537, 2048)),
        ("p384", ec.generate_private_key(ec.SECP384R1())),
    ):
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / f"{name}.pem").write_bytes(pem)
    (tmp_path / "rubbish.pem").write_bytes(b"no key")
    with pytest.raises(SigningKeysMissing):
        KeyRing(tmp_path)


def test_the_key_set_has_no_private_part(tmp_path: Path) -> None:
    new_key(tmp_path)
    (key,) = KeyRing(tmp_path).public()["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
