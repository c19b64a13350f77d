"""Secrets of webhook endpoints at rest."""

import pytest

from orderplane.adapters.webhook_endpoints.secrets import EndpointSecrets, SecretUnreadable, new_key

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_what_is_stored_says_nothing_of_the_secret() -> None:
    secrets = EndpointSecrets(new_key())
    stored = secrets.encrypt(SECRET)
    assert SECRET not in stored
    assert stored != secrets.encrypt(SECRET), "equal secrets are not seen to be equal"
    assert secrets.decrypt(stored) == SECRET


def test_keys_are_rotated() -> None:
    old, new = new_key(), new_key()
    stored = EndpointSecrets(old).encrypt(SECRET)
    both = EndpointSecrets(f"{new}, {old}")
    assert both.decrypt(stored) == SECRET
    renewed = both.renewed(stored)
    assert renewed is not None
    assert both.renewed(renewed) is None, "once is enough"
    assert EndpointSecrets(new).decrypt(renewed) == SECRET
    with pytest.raises(SecretUnreadable):
        EndpointSecrets(new).decrypt(stored)


async def test_a_key_that_is_none_changes_nothing() -> None:
    secrets = EndpointSecrets(new_key())
    stored = secrets.encrypt(SECRET)
    for wrong in ("", "short", f"{new_key()},", "pass word"):
        with pytest.raises(ValueError, match="give keys") as problem:
            await secrets.use_keys(wrong)
        assert not wrong or wrong not in str(problem.value)
    assert secrets.decrypt(stored) == SECRET


def test_what_was_changed_is_not_decrypted() -> None:
    secrets = EndpointSecrets(new_key())
    stored = secrets.encrypt(SECRET)
    for wrong in ("", SECRET, stored[:-4] + "AAA=", "\u00e9"):
        with pytest.raises(SecretUnreadable):
            secrets.decrypt(wrong)
