"""Access tokens: accepted ones, and every known way to forge one."""

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey

from orderplane.gateway.http.problems import Problem
from orderplane.gateway.identity.authentication import OwnTokens
from orderplane.gateway.identity.keyring import KeyRing, new_key
from orderplane.gateway.identity.tokens import (
    ACCESS_SECONDS,
    LEEWAY_SECONDS,
    MAX_TOKEN,
    TokenRules,
    UnknownKey,
    granted_scopes,
    issue,
    principal_of,
    verify_signature,
)
from orderplane.gateway.principal import (
    RECENT_LOGIN_SECONDS,
    SCOPES_OF,
    Principal,
    Role,
    Scope,
    TokenRefused,
    check_recent_login,
)

NOW = 1_800_000_000
RULES = TokenRules("https://orders.example", "orderplane")
ADA = Principal("demo", "u-ada", Role.CUSTOMER, SCOPES_OF[Role.CUSTOMER])


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    folder = tmp_path_factory.mktemp("keys")
    new_key(folder)
    return KeyRing(folder)


def take(ring: KeyRing, token: str, rules: TokenRules = RULES, now: float = NOW) -> Principal:
    return principal_of(verify_signature(token, ring.verifying), rules, now)


def b64(document: Any) -> str:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def claims(**changes: Any) -> dict[str, Any]:
    good = {
        "iss": RULES.issuer, "aud": RULES.audience, "sub": "u-ada", "iat": NOW, "exp": NOW + 900, "jti": "1",
        "merchant": "demo", "role": "customer", "scope": "orders:read",
    }  # fmt: skip
    return {name: value for name, value in (good | changes).items() if value is not ...}


def sign(ring: KeyRing, what: dict[str, Any], **header: Any) -> str:
    """As our own gateway would, but for what is changed."""
    full = {"alg": "ES256", "kid": ring.signing.thumbprint(), "typ": "at+jwt"} | header
    return jwt.encode({k: v for k, v in full.items() if v is not ...}, what, ring.signing, default_type=None)


def test_what_is_issued_is_taken(ring: KeyRing) -> None:
    granted = issue(ring, RULES, ADA, client_id="orderplane", now=NOW)
    assert take(ring, granted.token) == ADA
    assert granted.expires_in == ACCESS_SECONDS
    header, payload, _ = granted.token.split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "=="))["typ"] == "at+jwt"
    told = json.loads(base64.urlsafe_b64decode(payload + "=="))
    # RFC 9068, 2.2: these are required.
    assert {"iss", "exp", "aud", "sub", "client_id", "iat", "jti"} <= set(told)
    assert "@" not in json.dumps(told), "a token is read by many: it says nothing of a person"


def test_a_token_says_of_which_login_it_is_and_when_the_password_was_checked(ring: KeyRing) -> None:
    ada = replace(ADA, login="5e9c8f0e-7d0c-4c35-8f8e-0f7c3d0a2b11", logged_in_at=float(NOW - 60))
    assert take(ring, issue(ring, RULES, ada, client_id="orderplane", now=NOW).token) == ada
    for odd in (True, "yesterday", None):
        token = sign(ring, claims(sid=7, auth_time=odd))
        assert (take(ring, token).login, take(ring, token).logged_in_at) == (None, None)


@pytest.mark.parametrize(
    ("age", "is_recent"), [(0, True), (RECENT_LOGIN_SECONDS, True), (RECENT_LOGIN_SECONDS + 1, False)]
)
def test_what_cannot_be_undone_needs_a_recent_login(age: int, is_recent: bool) -> None:
    check = partial(check_recent_login, replace(ADA, logged_in_at=float(NOW - age)), NOW)
    if is_recent:
        check()
        return
    with pytest.raises(Problem) as refusal:
        check()
    assert (refusal.value.type.status, refusal.value.type.code) == (401, "login_too_old")
    # RFC 9470, 3.
    assert 'error="insufficient_user_authentication"' in refusal.value.headers["WWW-Authenticate"]


def test_a_token_that_comes_from_no_login_is_not_recent() -> None:
    with pytest.raises(Problem):
        check_recent_login(ADA, NOW)


def test_no_signature_is_no_token(ring: KeyRing) -> None:
    kid = ring.signing.thumbprint()
    for algorithm in ("none", "None", "NONE", ""):
        forged = f"{b64({'alg': algorithm, 'kid': kid, 'typ': 'at+jwt'})}.{b64(claims())}."
        with pytest.raises(TokenRefused, match="malformed"):
            take(ring, forged)


def test_our_public_key_is_no_secret_to_sign_with(ring: KeyRing) -> None:
    """Key confusion: an HMAC whose secret is the public key that everybody has."""
    public = ring.public()["keys"][0]
    key = ECKey.import_key({name: public[name] for name in ("kty", "crv", "x", "y")})
    for secret in (
        key.as_pem(private=False),
        json.dumps(public).encode(),
        key.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    ):
        head = f"{b64({'alg': 'HS256', 'kid': public['kid'], 'typ': 'at+jwt'})}.{b64(claims())}"
        forged = f"{head}.{b64(hmac.digest(secret, head.encode(), hashlib.sha256))}"
        with pytest.raises(TokenRefused, match="malformed"):
            take(ring, forged)


@pytest.mark.parametrize(
    "kid", ["", "../../../etc/passwd", "/dev/null", "https://evil.example/key", "' OR '1'='1", "unknown"]
)
def test_a_forged_key_id_finds_no_key(ring: KeyRing, kid: str) -> None:
    with pytest.raises(UnknownKey):
        take(ring, sign(ring, claims(), kid=kid))


@pytest.mark.parametrize("kid", [..., 7, None, ["a"], {"a": 1}, "k" * 129])
def test_a_key_id_is_a_short_text(ring: KeyRing, kid: Any) -> None:
    header = {"alg": "ES256", "typ": "at+jwt"} | ({} if kid is ... else {"kid": kid})
    with pytest.raises(TokenRefused):
        take(ring, f"{b64(header)}.{b64(claims())}.{b64(bytes(64))}")


def test_a_key_that_a_token_brings_along_is_not_used(ring: KeyRing) -> None:
    mine = ECKey.generate_key("P-256")
    for extra in ({"jwk": mine.as_dict(private=False)}, {"jku": "https://evil.example/jwks.json"}):
        header = {"alg": "ES256", "kid": ring.signing.thumbprint(), "typ": "at+jwt"} | extra
        head = f"{b64(header)}.{b64(claims())}"
        signature = jwt.encode({"alg": "ES256"}, claims(), mine).rpartition(".")[2]
        with pytest.raises(TokenRefused):
            take(ring, f"{head}.{signature}")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"exp": NOW - LEEWAY_SECONDS - 1}, "expired"),
        ({"exp": ...}, "expired"),
        ({"exp": str(NOW + 900)}, "expired"),
        ({"exp": True}, "expired"),
        ({"nbf": NOW + LEEWAY_SECONDS + 1}, "not valid yet"),
        ({"iat": NOW + 3600}, "not valid yet"),
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"iss": ...}, "another issuer"),
        ({"aud": "somebody-else"}, "another audience"),
        ({"aud": ["a", "b"]}, "another audience"),
        ({"aud": ...}, "another audience"),
        ({"sub": ...}, "who it is for"),
        ({"sub": 7}, "who it is for"),
        ({"merchant": ...}, "who it is for"),
        ({"merchant": ["demo"]}, "who it is for"),
        ({"sub": ""}, "who it is for"),
        ({"sub": "u-\x00"}, "who it is for"),
        ({"sub": "u" * 256}, "who it is for"),
        ({"merchant": ""}, "who it is for"),
        ({"merchant": "Demo"}, "who it is for"),
        ({"merchant": "demo\n"}, "who it is for"),
        ({"merchant": "demo/orders?limit=1#"}, "who it is for"),
        ({"merchant": "../../version"}, "who it is for"),
        ({"merchant": "x" * 64}, "who it is for"),
        ({"role": ...}, "no role"),
        ({"role": "root"}, "no role"),
    ],
)
def test_wrong_claims_are_refused(ring: KeyRing, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(TokenRefused, match=why):
        take(ring, sign(ring, claims(**changes)))


@pytest.mark.parametrize("typ", [..., "JWT", "id+jwt", "refresh"])
def test_other_kinds_of_token_are_no_access_tokens(ring: KeyRing, typ: Any) -> None:
    with pytest.raises(TokenRefused, match="not an access token"):
        take(ring, sign(ring, claims(), typ=typ))


def test_a_token_gives_no_more_than_its_role_may(ring: KeyRing) -> None:
    caller = take(ring, sign(ring, claims(scope="orders:read users:admin products:write")))
    assert caller.scopes == {Scope.ORDERS_READ}
    assert take(ring, sign(ring, claims(scope=...))).scopes == SCOPES_OF[Role.CUSTOMER]
    assert granted_scopes("", Role.ADMIN) == frozenset()


def test_the_clock_has_some_leeway(ring: KeyRing) -> None:
    assert take(ring, sign(ring, claims(exp=NOW - LEEWAY_SECONDS + 1))).name == "u-ada"


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200).map(lambda raw: f"{b64(raw)}.{b64(raw)}.x")))
def test_rubbish_is_refused_and_breaks_nothing(text: str) -> None:
    with pytest.raises(TokenRefused):
        verify_signature(text, lambda _: None)


def test_a_very_long_one_is_not_read(ring: KeyRing) -> None:
    with pytest.raises(TokenRefused, match="too long"):
        take(ring, "a" * (MAX_TOKEN + 1))


@given(position=st.integers(min_value=0), flip=st.integers(min_value=1, max_value=63))
def test_no_letter_of_a_token_can_be_changed(ring: KeyRing, position: int, flip: int) -> None:
    token = sign(ring, claims())
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # The last letter of the signature has spare bits, and a dot is no letter.
    places = [place for place, letter in enumerate(token[:-1]) if letter != "."]
    place = places[position % len(places)]
    other = letters[(letters.index(token[place]) + flip) % 64]
    with pytest.raises(TokenRefused):
        take(ring, token[:place] + other + token[place + 1 :])


def test_ed25519_keys_sign_too(tmp_path: Path) -> None:
    content = ed25519.Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    (tmp_path / "a.pem").write_bytes(content)
    ring = KeyRing(tmp_path)
    assert take(ring, issue(ring, RULES, ADA, client_id="c", now=NOW).token) == ADA
    assert ring.public()["keys"][0]["alg"] == "Ed25519"


def test_a_stranger_with_the_same_kind_of_key_is_a_stranger(ring: KeyRing, tmp_path: Path) -> None:
    new_key(tmp_path)
    strange = issue(KeyRing(tmp_path), RULES, ADA, client_id="c", now=NOW).token
    with pytest.raises(UnknownKey):
        take(ring, strange)
    pretended = jwt.encode(
        {"alg": "ES256", "kid": ring.signing.thumbprint(), "typ": "at+jwt"}, claims(),
        ECKey.import_key(
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            )
        ),
    )  # fmt: skip
    with pytest.raises(TokenRefused, match="signature is wrong"):
        take(ring, pretended)


class Logins:
    """Accounts of which one login has ended."""

    async def role_of(self, merchant: str, name: str, login: str | None) -> str | None:
        return None if login == "ended" else "customer"


@pytest.mark.parametrize(("login", "is_live"), [("live", True), ("ended", False)])
async def test_a_token_ends_with_its_login(ring: KeyRing, login: str, is_live: bool) -> None:
    tokens = OwnTokens(ring, RULES, Logins(), unix_time=lambda: NOW)
    token = issue(ring, RULES, replace(ADA, login=login), client_id="orderplane", now=NOW).token
    if is_live:
        assert (await tokens.caller(token)).login == login
        return
    for _ in range(2):
        with pytest.raises(TokenRefused, match="login"):
            await tokens.caller(token)
