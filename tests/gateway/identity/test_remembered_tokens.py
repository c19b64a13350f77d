"""A token is verified once. What was remembered is no longer believed once anything about it has changed."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orderplane.gateway.identity import authentication
from orderplane.gateway.identity.authentication import AccountCache, OwnTokens
from orderplane.gateway.identity.keyring import RELOAD_SECONDS, KeyRing, new_key
from orderplane.gateway.identity.tokens import ACCESS_SECONDS, LEEWAY_SECONDS, TokenRules, issue
from orderplane.gateway.principal import SCOPES_OF, Principal, Role, TokenRefused

NOW = 1_800_000_000
RULES = TokenRules("https://orders.example", "orderplane")
ADA = Principal("demo", "u-ada", Role.CUSTOMER, SCOPES_OF[Role.CUSTOMER], "login-1", NOW)


@dataclass
class Shop:
    """Keys, accounts and clocks, and what is authenticated by them."""

    folder: Path
    seconds: float = 0.0
    role: str | None = "customer"
    ended: set[str | None] = field(default_factory=set)
    changed: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        new_key(self.folder)
        self.ring = KeyRing(self.folder, lambda: self.seconds)
        self.accounts = AccountCache(self, lambda: self.seconds)
        self.tokens = OwnTokens(self.ring, RULES, self.accounts, unix_time=lambda: NOW + self.seconds)

    async def role_of(self, _merchant: str, _name: str, login: str | None) -> str | None:
        return None if login in self.ended else self.role

    async def recently_changed(self) -> list[tuple[str, str]]:
        return self.changed

    def token(self, caller: Principal = ADA) -> str:
        now = int(NOW + self.seconds)
        return issue(self.ring, RULES, caller, client_id="shop", now=now).token


@pytest.fixture
async def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    await shop.accounts.refresh()
    return shop


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose signature was checked."""
    seen: list[str] = []
    verify = authentication.verify_signature

    def note(token: str, *arguments: object) -> object:
        seen.append(token)
        return verify(token, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(authentication, "verify_signature", note)
    return seen


async def test_a_signature_is_checked_once(shop: Shop, verified: list[str]) -> None:
    token = shop.token()
    callers = [await shop.tokens.caller(token) for _ in range(10)]
    assert callers == [ADA] * 10
    assert verified == [token]


async def test_another_token_with_the_same_start_is_another_token(shop: Shop) -> None:
    token = shop.token()
    await shop.tokens.caller(token)
    for forged in (token[:-4] + "AAAA", token + "A", token[:-1], token.upper()):
        with pytest.raises(TokenRefused):
            await shop.tokens.caller(forged)


async def test_it_ends_when_it_expires(shop: Shop) -> None:
    token = shop.token()
    await shop.tokens.caller(token)
    shop.seconds = ACCESS_SECONDS + LEEWAY_SECONDS - 1
    await shop.tokens.caller(token)
    shop.seconds += 1
    with pytest.raises(TokenRefused, match="expired"):
        await shop.tokens.caller(token)


async def test_it_does_not_hold_before_its_time(shop: Shop) -> None:
    """The clock was set back."""
    token = shop.token()
    await shop.tokens.caller(token)
    shop.seconds = -LEEWAY_SECONDS - 1
    with pytest.raises(TokenRefused, match="not valid yet"):
        await shop.tokens.caller(token)


async def test_it_ends_with_its_login_and_the_others_do_not(shop: Shop) -> None:
    """A logout, and a change of the password, which ends all logins."""
    token = shop.token()
    other = shop.token(Principal("demo", "u-ada", Role.CUSTOMER, ADA.scopes, "login-2", NOW))
    for known in (token, other):
        await shop.tokens.caller(known)
    shop.ended.add("login-1")
    shop.accounts.forget("demo", "u-ada")  # NOTIFY
    with pytest.raises(TokenRefused, match="login"):
        await shop.tokens.caller(token)
    await shop.tokens.caller(other)


@pytest.mark.parametrize("role", [None, "merchant"])
async def test_it_ends_with_its_account_and_its_role_also_where_the_notice_was_lost(
    shop: Shop, role: str | None
) -> None:
    token = shop.token()
    await shop.tokens.caller(token)
    shop.role = role
    shop.changed.append(("demo", "u-ada"))
    await shop.accounts.refresh()
    with pytest.raises(TokenRefused):
        await shop.tokens.caller(token)


async def test_it_ends_when_its_key_is_removed(shop: Shop) -> None:
    token = shop.token()
    await shop.tokens.caller(token)
    (old,) = shop.folder.glob("*.pem")
    new_key(shop.folder)
    old.unlink()
    shop.seconds = RELOAD_SECONDS
    await shop.accounts.refresh()
    with pytest.raises(TokenRefused, match="key"):
        await shop.tokens.caller(token)


async def test_few_are_remembered_and_none_in_clear(
    shop: Shop, verified: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "_MAX_TOKENS", 3)
    tokens = [shop.token() for _ in range(5)]
    for token in (*tokens, *tokens[2:], tokens[0]):
        await shop.tokens.caller(token)
    assert verified == [*tokens, tokens[0]]
    assert len(shop.tokens._verified) == 3
    assert not any(token.encode() in repr(shop.tokens._verified).encode() for token in tokens)
