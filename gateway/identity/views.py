"""Users and tokens as this API shows them."""

from typing import Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from orderplane.gateway.http.documentation import Next, Time, closed
from orderplane.gateway.identity.grants import GrantedTokens
from orderplane.gateway.identity.user_store import Client, User
from orderplane.gateway.principal import Role


class TokenView(TypedDict):
    """RFC 6749, 5.1."""

    access_token: Annotated[
        str,
        Field(
            description="A JWT (RFC 9068); send it as `Authorization: Bearer`.",
            examples=["eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.c2lnbmF0dXJl"],
        ),
    ]
    token_type: Annotated[str, Field(examples=["Bearer"])]
    expires_in: Annotated[int, Field(description="Seconds.", examples=[900])]
    scope: Annotated[str, Field(examples=["orders:read orders:write products:read profile"])]
    refresh_token: NotRequired[
        Annotated[
            str, Field(description="It can be used once; services get none.", examples=["demo.pk3uBpoUuOI"])
        ]
    ]


class RegisteredView(TypedDict):
    """The answer to every registration."""

    detail: Annotated[str, Field(examples=["Follow the link in the mail, then log in."])]


class AskedView(TypedDict):
    """The answer to every request that is confirmed by a mail."""

    detail: Annotated[str, Field(examples=["Follow the link in the mail."])]


class KeyView(TypedDict):
    """A public key (RFC 7517): P-256 with `x` and `y`, or Ed25519 with `x`."""

    kty: Annotated[str, Field(examples=["EC"])]
    crv: Annotated[str, Field(examples=["P-256"])]
    x: Annotated[str, Field(examples=["f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"])]
    y: NotRequired[Annotated[str, Field(examples=["x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"])]]
    kid: Annotated[str, Field(examples=["oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"])]
    use: Annotated[str, Field(examples=["sig"])]
    alg: Annotated[str, Field(description="ES256 or Ed25519.", examples=["ES256"])]


class KeySetView(TypedDict):
    """Every key that verifies access tokens."""

    keys: list[KeyView]


class PreferencesView(TypedDict):
    """Channels through which a user gets notifications."""

    email: Annotated[bool, Field(examples=[True])]
    sms: bool


class UserView(TypedDict):
    """One user of one merchant."""

    id: Annotated[str, Field(examples=["u-3k9x2m7qpl5v8r4t"])]
    email: Annotated[
        str, Field(description="Its domain is in A-labels (RFC 5890).", examples=["ada@example.org"])
    ]
    emailConfirmed: Annotated[
        bool, Field(description="Nothing is sent to an address that is not confirmed.", examples=[True])
    ]
    unconfirmedEmail: Annotated[
        str | None, Field(description="Takes the place of `email` once it is confirmed.", examples=[None])
    ]
    name: Annotated[str, Field(examples=["Ada Example"])]
    phone: Annotated[str | None, Field(description="E.164, confirmed.", examples=["+4930901820"])]
    unconfirmedPhone: Annotated[
        str | None, Field(description="Takes the place of `phone` once it is confirmed.", examples=[None])
    ]
    role: Annotated[str, Field(examples=["customer"], json_schema_extra=closed("Role", Role))]
    merchant: Annotated[str, Field(examples=["demo"])]
    preferences: PreferencesView
    createdAt: Time


class UserListView(TypedDict):
    """A page of users, by id."""

    items: list[UserView]
    next: Next


class ClientView(TypedDict):
    """One service of one merchant."""

    id: Annotated[str, Field(description="Its `client_id`.", examples=["c-1d9x2m7qpl5v8r4t"])]
    name: Annotated[str, Field(examples=["warehouse"])]
    createdAt: Time


class NewClientView(ClientView):
    """A service with its secret."""

    secret: Annotated[
        str,
        Field(
            description="Its `client_secret`. It cannot be read again.",
            examples=["mVq0T5Yw3pXb8rL1dZk7hJ2sNf6gCe4aUo9iBx0tWy8"],
        ),
    ]


class ClientListView(TypedDict):
    """A page of services, by id."""

    items: list[ClientView]
    next: Next


def client_view(client: Client) -> ClientView:
    """A service, without its secret."""
    return {
        "id": client.id,
        "name": client.name,
        "createdAt": client.created_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
    }


def token_view(tokens: GrantedTokens) -> TokenView:
    """The response to a grant."""
    view: TokenView = {
        "access_token": tokens.access.token,
        "token_type": "Bearer",
        "expires_in": tokens.access.expires_in,
        "scope": " ".join(sorted(tokens.access.scopes)),
    }
    if tokens.refresh is not None:
        view["refresh_token"] = tokens.refresh
    return view


def user_view(merchant: str, user: User) -> UserView:
    """A user, as they and their admins see them."""
    return {
        "id": user.id,
        "email": user.email,
        "emailConfirmed": user.is_email_confirmed,
        "unconfirmedEmail": user.unconfirmed_email,
        "name": user.name,
        "phone": user.phone,
        "unconfirmedPhone": user.unconfirmed_phone,
        "role": user.role,
        "merchant": merchant,
        "preferences": {"email": user.preferences["email"], "sms": user.preferences["sms"]},
        "createdAt": user.created_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
