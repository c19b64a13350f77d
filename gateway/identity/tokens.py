"""Access tokens: short-lived JWTs (RFC 9068), each valid for one merchant."""

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jws import CompactSignature

from orderplane.gateway.identity.keyring import KeyRing, VerifyingKey, algorithm_of
from orderplane.gateway.principal import SCOPES_OF, Principal, Role, Scope, TokenRefused

ACCESS_SECONDS = 900
LEEWAY_SECONDS = 30
"""Tolerated clock skew."""

OWN_ALGORITHMS = ("ES256", "Ed25519", "EdDSA")
OIDC_ALGORITHMS = (*OWN_ALGORITHMS, "RS256")
MAX_TOKEN = 8192
_TYPES = ("at+jwt", "application/at+jwt")


_SUBJECT = re.compile(r"[!-~]{1,255}")
"""OpenID Connect Core 1.0, 2: at most 255 characters of ASCII."""
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class UnknownKey(TokenRefused):
    """The token names a key that is not known here; it may be a new one."""

    def __init__(self, kid: str) -> None:
        super().__init__("The token is signed with a key that is not known here.")
        self.kid = kid


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An issued token."""

    token: str
    expires_in: int
    scopes: frozenset[Scope]


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What the claims of a token must be.

    Args:
        issuer: `iss`.
        audience: Must be among `aud`.
        merchant_claim, role_claim: The claims in which another issuer puts them.
        types: Accepted values of `typ`; empty accepts any, for issuers that do not follow RFC 9068.
    """

    issuer: str
    audience: str
    merchant_claim: str = "merchant"
    role_claim: str = "role"
    types: tuple[str, ...] = _TYPES


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token whose signature is right; its claims are not checked yet."""

    kid: str
    type: str
    claims: dict[str, Any]


def issue(ring: KeyRing, rules: TokenRules, caller: Principal, *, client_id: str, now: int) -> AccessToken:
    """Issue a token to a caller."""
    key = ring.signing
    algorithm = algorithm_of(key)
    claims = {
        "iss": rules.issuer,
        "aud": rules.audience,
        "sub": caller.name,
        "client_id": client_id,
        "iat": now,
        "exp": now + ACCESS_SECONDS,
        "jti": secrets.token_urlsafe(16),
        "merchant": caller.merchant,
        "role": caller.role.value,
        "scope": " ".join(sorted(caller.scopes)),
    }
    if caller.login is not None:
        # The names of OpenID Connect: Core 1.0, section 2; Front-Channel Logout 1.0, section 3.
        claims |= {"sid": caller.login, "auth_time": int(caller.logged_in_at or 0)}
    header = {"alg": algorithm, "kid": key.thumbprint(), "typ": "at+jwt"}
    token = jwt.encode(header, claims, key, algorithms=[algorithm])
    return AccessToken(token, ACCESS_SECONDS, caller.scopes)


def verify_signature(
    token: str, key_of: Callable[[str], VerifyingKey | None], algorithms: tuple[str, ...] = OWN_ALGORITHMS
) -> VerifiedToken:
    """Read a token and check its signature.

    The key is chosen by `kid` among the known keys, never by a key or URL in the token (RFC 8725, 3.10), and
    the algorithm must be the one of the key (RFC 8725, 3.1).

    Raises:
        TokenRefused: it is malformed or not signed by a known key (`UnknownKey`).
    """
    if len(token) > MAX_TOKEN:
        raise TokenRefused("The token is too long.")

    def choose(signature: Any) -> VerifyingKey:
        assert isinstance(signature, CompactSignature)
        kid = signature.headers().get("kid")
        if not isinstance(kid, str) or len(kid) > 128:
            raise TokenRefused("The token does not name its key.")
        key = key_of(kid)
        if key is None:
            raise UnknownKey(kid)
        return key

    try:
        decoded = jwt.decode(token, choose, algorithms=algorithms)
    except (JoseError, ValueError) as problem:
        raise TokenRefused("The token is malformed or its signature is wrong.") from problem
    return VerifiedToken(decoded.header["kid"], str(decoded.header.get("typ", "")), decoded.claims)


def principal_of(token: VerifiedToken, rules: TokenRules, now: float) -> Principal:
    """Check the claims of a token and return its subject.

    Raises:
        TokenRefused: wrong issuer or audience, expired, not valid yet, or incomplete.
    """
    claims = token.claims
    if rules.types and token.type.lower() not in rules.types:
        raise TokenRefused("The token is not an access token.")
    if claims.get("iss") != rules.issuer:
        raise TokenRefused("The token is of another issuer.")
    audience = claims.get("aud")
    if rules.audience not in (audience if isinstance(audience, list) else [audience]):
        raise TokenRefused("The token is for another audience.")
    if not _is_number(claims.get("exp")) or claims["exp"] + LEEWAY_SECONDS <= now:
        raise TokenRefused("The token has expired.")
    for name in ("nbf", "iat"):
        if name in claims and (not _is_number(claims[name]) or claims[name] - LEEWAY_SECONDS > now):
            raise TokenRefused("The token is not valid yet.")
    subject, merchant = claims.get("sub"), claims.get(rules.merchant_claim)
    if not (isinstance(subject, str) and _SUBJECT.fullmatch(subject)):
        raise TokenRefused("The token does not say who it is for.")
    if not (isinstance(merchant, str) and _NAMESPACE.fullmatch(merchant)):
        raise TokenRefused("The token does not say who it is for: no claim has the name of a namespace.")
    try:
        role = Role(str(claims.get(rules.role_claim)))
    except ValueError:
        raise TokenRefused("The token names no role that there is.") from None
    login, logged_in_at = claims.get("sid"), claims.get("auth_time")
    return Principal(
        merchant,
        subject,
        role,
        granted_scopes(claims.get("scope"), role),
        login if isinstance(login, str) else None,
        logged_in_at if _is_number(logged_in_at) else None,
    )


def validity(token: VerifiedToken) -> tuple[float, float]:
    """The Unix times from which and until which `principal_of` accepts a token that it has accepted once."""
    begins = [token.claims[name] for name in ("nbf", "iat") if name in token.claims]
    return max(begins, default=0.0) - LEEWAY_SECONDS, token.claims["exp"] + LEEWAY_SECONDS


def granted_scopes(text: object, role: Role) -> frozenset[Scope]:
    """The requested scopes that the role may have; all of them if none is requested (None)."""
    if text is None:
        return SCOPES_OF[role]
    words = set(str(text).split())
    return frozenset(scope for scope in SCOPES_OF[role] if scope.value in words)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
